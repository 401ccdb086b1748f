//! One pre-norm transformer block, from hidden state to hidden state, with tuners inside and beside it.

use super::backbone_config::TowerConfig;
use super::cpu_attention;
use super::gpu_kernels::GpuKernels;
use super::graph::BlockGraph;
use super::layers::{Activation, LayerNorm, Linear, QUICK_GELU};
use super::precision::{Kernels, Precision};
use super::tower::{Field, LinearSite, NormSite, UnitTuner};
use crate::aten::products_are_fast;
use std::collections::BTreeMap;
use std::ops::Range;
use tch::Tensor;

/// The rows of the hidden state that a block must produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputRows {
    /// Every token.
    All,
    /// The first token only, for the last block of an image tower that pools by its class token.
    First,
}

/// The attention mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// Every token attends to all tokens (images).
    Full,
    /// Every token attends to itself and the tokens before it (text).
    Causal,
}

/// `x + scale1 attention(norm1(x))`, then `x + scale2 mlp(norm2(x))`; most towers have no scales.
#[derive(Debug)]
pub struct Block {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Queries, keys and values in one product: `[3 width, width]`.
    pub qkv: Linear,
    /// After attention: `[width, width]`.
    pub proj: Linear,
    /// Factor on the output of attention, `[width]`.
    pub scale1: Option<Tensor>,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// `[hidden, width]`.
    pub fc1: Linear,
    /// `[width, hidden]`.
    pub fc2: Linear,
    /// Factor on the output of the MLP, `[width]`.
    pub scale2: Option<Tensor>,
    /// Between the two.
    pub activation: Activation,
    /// The attention mask.
    pub attention: Attention,
    /// Attention heads, which divide the width.
    pub heads: i64,
    /// Kernels of our own for norms and residual additions, where they serve.
    pub gpu_kernels: Option<GpuKernels>,
}

/// Tuners of one block, in the order in which they act.
type Tuners<'a> = &'a [Box<dyn UnitTuner>];

impl Block {
    /// `x`: `[images, tokens, width]`. `OutputRows::First` gives `[images, 1, width]`, at the cost of keys and
    /// values for all tokens and the rest for one. With `graph`, the backward pass is that of the graph.
    pub fn forward(
        &self,
        x: &Tensor,
        rows: OutputRows,
        tuners: Tuners<'_>,
        graph: Option<&BlockGraph>,
    ) -> Tensor {
        let x = tuners.iter().fold(x.shallow_clone(), |x, tuner| tuner.enter(x));
        let normed = self.normed((NormSite::First, 1.0), &x, tuners, graph);
        let (attended, x) = match rows {
            OutputRows::All => (self.attend_all(&normed, tuners, graph), x),
            OutputRows::First => (self.attend_first(&normed, tuners, graph), x.narrow(1, 0, 1)),
        };
        let attended = self.tuned(LinearSite::Proj, tuners).forward(&attended, graph);
        let factor = if self.folds_quick_gelu(tuners) { QUICK_GELU } else { 1.0 };
        let (x, read) = match self.add_attention_and_norm(&x, &attended, factor, tuners, graph) {
            Some((x, read)) => (x, Some(read)),
            None => (self.add_attention(&x, attended, graph), None),
        };
        let beside: Vec<Tensor> = tuners.iter().filter_map(|tuner| tuner.beside_mlp(&x, graph)).collect();
        let read = read.unwrap_or_else(|| self.normed((NormSite::Second, factor), &x, tuners, graph));
        self.add_mlp(&x, &read, beside, tuners, graph)
    }

    /// A norm of the hidden state times a factor. A kernel gives it in the type of matrix products.
    fn normed(
        &self,
        (site, factor): (NormSite, f64),
        x: &Tensor,
        tuners: Tuners<'_>,
        graph: Option<&BlockGraph>,
    ) -> Tensor {
        let norm = self.norm(site);
        let kernels = self.kernels_at_norms(tuners);
        let by_kernel = kernels.and_then(|kernels| kernels.layer_norm(x, norm.times(factor), graph));
        let by_libtorch = || if factor == 1.0 { norm.forward(x) } else { norm.forward_times(x, factor) };
        tuned_norm(site, by_kernel.unwrap_or_else(by_libtorch), tuners)
    }

    /// `x + y`, and the norm before the MLP times a factor, by one kernel. None where none serves.
    fn add_attention_and_norm(
        &self,
        x: &Tensor,
        y: &Tensor,
        factor: f64,
        tuners: Tuners<'_>,
        graph: Option<&BlockGraph>,
    ) -> Option<(Tensor, Tensor)> {
        let kernels = self.kernels_at_norms(tuners).filter(|_| self.scale1.is_none())?;
        let (sum, normed) = kernels.residual_layer_norm(x, y, self.norm2.times(factor), graph)?;
        Some((sum, tuned_norm(NormSite::Second, normed, tuners)))
    }

    /// The kernels for norms, unless a tuner changes what norms give.
    fn kernels_at_norms(&self, tuners: Tuners<'_>) -> Option<GpuKernels> {
        self.gpu_kernels.filter(|_| !tuners.iter().any(|tuner| tuner.acts_on_norms()))
    }

    /// Whether the norm before the MLP takes up the factor of QuickGELU; see [`add_mlp`](Self::add_mlp).
    fn folds_quick_gelu(&self, tuners: Tuners<'_>) -> bool {
        self.fc1.kernels() == Kernels::Fused
            && self.activation == Activation::QuickGelu
            && tuners.iter().all(|tuner| tuner.is_homogeneous())
    }

    /// `x + scale1 y`, joined in `graph`.
    fn add_attention(&self, x: &Tensor, y: Tensor, graph: Option<&BlockGraph>) -> Tensor {
        let sum = |y: Tensor| (x + scaled(y, self.scale1.as_ref())).to_kind(x.kind());
        let Some(graph) = graph else { return sum(y) };
        let in_place = self.scale1.is_none().then(|| graph.sum_into(&y, 1.0, x, &mut [])).flatten();
        in_place.unwrap_or_else(|| graph.join(sum(y)))
    }

    /// `x + scale2 mlp(norm2(x))`, and what tuners add beside the MLP; `read` is `norm2(x)`.
    ///
    /// QuickGELU is `silu(c h) / c` with `c = 1.702`, which is one operation. The norm takes up the factor `c`, and the addition
    /// to `x` the factor `1 / c`.
    fn add_mlp(
        &self,
        x: &Tensor,
        read: &Tensor,
        mut beside: Vec<Tensor>,
        tuners: Tuners<'_>,
        graph: Option<&BlockGraph>,
    ) -> Tensor {
        let folded = self.folds_quick_gelu(tuners);
        let factor = if folded { QUICK_GELU } else { 1.0 };
        let hidden = self.tuned(LinearSite::Fc1, tuners).bias_times(factor).forward(read, graph);
        let hidden = if folded { hidden.silu() } else { self.activation.forward(&hidden) };
        let hidden = tuners.iter().fold(hidden, |hidden, tuner| tuner.hidden(hidden));
        let y = self.tuned(LinearSite::Fc2, tuners).bias_times(factor).forward(&hidden, graph);
        if let Some(graph) = graph.filter(|_| folded && self.scale2.is_none())
            && let Some(sum) = graph.sum_into(&y, 1.0 / factor, x, &mut beside)
        {
            return sum;
        }
        // A tuner that changes the output of the MLP is not homogeneous, so that nothing is folded.
        let y = if folded { y } else { scaled(y, self.scale2.as_ref()) };
        let y = if folded { y } else { tuners.iter().fold(y, |y, tuner| tuner.mlp(y, graph)) };
        if let Some(kernels) = self.gpu_kernels.filter(|_| !folded || self.scale2.is_none())
            && let Some(sum) = kernels.residual_sum(x, &y, 1.0 / factor, &beside, graph)
        {
            return sum;
        }
        let sum = if folded {
            let own = || Tensor::full([1], 1.0 / factor, (x.kind(), x.device()));
            x.addcmul(&y, &self.scale2.as_ref().map_or_else(own, |scale| scale / factor))
        } else {
            x + y
        };
        // Trained scales and tuners may give another element type than that of the residual stream.
        beside.into_iter().fold(sum, |sum, y| sum + y).to_kind(x.kind())
    }

    /// A block from its tensors; only the scales are optional.
    ///
    /// # Panics
    /// If another tensor is missing.
    pub fn from_tensors(
        tensors: Vec<(Field, Tensor)>,
        config: TowerConfig,
        attention: Attention,
        precision: Precision,
    ) -> Self {
        let TowerConfig { activation, heads, norm_eps: eps } = config;
        let mut tensors: BTreeMap<Field, Tensor> = tensors.into_iter().collect();
        let (scale1, scale2) = (tensors.remove(&Field::Scale1), tensors.remove(&Field::Scale2));
        let mut take = |field| tensors.remove(&field).expect("the loader gives every tensor of a block");
        Self {
            norm1: LayerNorm::new(take(Field::Norm1Weight), take(Field::Norm1Bias), eps),
            qkv: Linear::new(take(Field::QkvWeight), take(Field::QkvBias), precision),
            proj: Linear::new(take(Field::ProjWeight), take(Field::ProjBias), precision),
            scale1,
            norm2: LayerNorm::new(take(Field::Norm2Weight), take(Field::Norm2Bias), eps),
            fc1: Linear::new(take(Field::Fc1Weight), take(Field::Fc1Bias), precision),
            fc2: Linear::new(take(Field::Fc2Weight), take(Field::Fc2Bias), precision),
            scale2,
            activation,
            attention,
            heads,
            gpu_kernels: None,
        }
    }

    /// Its tensors, in the order of [`Field`].
    pub fn tensors(&self) -> Vec<(Field, &Tensor)> {
        let mut tensors = vec![
            (Field::Norm1Weight, &self.norm1.weight),
            (Field::Norm1Bias, &self.norm1.bias),
            (Field::QkvWeight, &self.qkv.weight),
            (Field::QkvBias, &self.qkv.bias),
            (Field::ProjWeight, &self.proj.weight),
            (Field::ProjBias, &self.proj.bias),
            (Field::Norm2Weight, &self.norm2.weight),
            (Field::Norm2Bias, &self.norm2.bias),
            (Field::Fc1Weight, &self.fc1.weight),
            (Field::Fc1Bias, &self.fc1.bias),
            (Field::Fc2Weight, &self.fc2.weight),
            (Field::Fc2Bias, &self.fc2.bias),
        ];
        tensors.extend(self.scale1.iter().map(|scale| (Field::Scale1, scale)));
        tensors.extend(self.scale2.iter().map(|scale| (Field::Scale2, scale)));
        tensors.sort_by_key(|(field, _)| *field);
        tensors
    }

    /// Mutable references to its tensors, in the order of [`Field`].
    pub fn tensors_mut(&mut self) -> Vec<(Field, &mut Tensor)> {
        let mut tensors = vec![
            (Field::Norm1Weight, &mut self.norm1.weight),
            (Field::Norm1Bias, &mut self.norm1.bias),
            (Field::QkvWeight, &mut self.qkv.weight),
            (Field::QkvBias, &mut self.qkv.bias),
            (Field::ProjWeight, &mut self.proj.weight),
            (Field::ProjBias, &mut self.proj.bias),
            (Field::Norm2Weight, &mut self.norm2.weight),
            (Field::Norm2Bias, &mut self.norm2.bias),
            (Field::Fc1Weight, &mut self.fc1.weight),
            (Field::Fc1Bias, &mut self.fc1.bias),
            (Field::Fc2Weight, &mut self.fc2.weight),
            (Field::Fc2Bias, &mut self.fc2.bias),
        ];
        tensors.extend(self.scale1.iter_mut().map(|scale| (Field::Scale1, scale)));
        tensors.extend(self.scale2.iter_mut().map(|scale| (Field::Scale2, scale)));
        tensors.sort_by_key(|(field, _)| *field);
        tensors
    }

    fn tuned<'a>(&'a self, site: LinearSite, tuners: Tuners<'a>) -> TunedLinear<'a> {
        let own = self.layer(site);
        let replaced = tuners.iter().find_map(|tuner| tuner.replace(site, own));
        TunedLinear { site, own, replaced, tuners, bias_factor: 1.0 }
    }

    fn norm(&self, site: NormSite) -> &LayerNorm {
        match site {
            NormSite::First => &self.norm1,
            NormSite::Second => &self.norm2,
        }
    }

    fn layer(&self, site: LinearSite) -> &Linear {
        match site {
            LinearSite::Qkv => &self.qkv,
            LinearSite::Proj => &self.proj,
            LinearSite::Fc1 => &self.fc1,
            LinearSite::Fc2 => &self.fc2,
        }
    }

    fn attend_all(&self, normed: &Tensor, tuners: Tuners<'_>, graph: Option<&BlockGraph>) -> Tensor {
        let qkv = self.tuned(LinearSite::Qkv, tuners).forward(normed, graph);
        if let Some(attended) = self.attend_outside_autograd(&qkv, graph) {
            return attended;
        }
        let [q, k, v] = split_qkv(&qkv, self.heads);
        merge_heads(&self.scaled_dot_product(&q, &k, &v))
    }

    /// Attention cut out of `graph`; none where libtorch's serves better, or autograd has to record it.
    fn attend_outside_autograd(&self, qkv: &Tensor, graph: Option<&BlockGraph>) -> Option<Tensor> {
        let heads = self.heads;
        let fast = self.qkv.kernels() == Kernels::Fused
            && self.attention == Attention::Full
            && cpu_attention::serves(qkv)
            && products_are_fast();
        let recorded = qkv.requires_grad();
        if !fast || (recorded && graph.is_none()) {
            return None;
        }
        let attended = cpu_attention::forward(qkv, heads);
        let output = attended.output.shallow_clone();
        let Some(graph) = graph.filter(|_| recorded) else { return Some(output) };
        let read = qkv.detach();
        let backward =
            move |gradient: &Tensor| Some(cpu_attention::backward(&read, &attended, gradient, heads));
        Some(graph.cut(qkv, &output, backward))
    }

    fn attend_first(&self, normed: &Tensor, tuners: Tuners<'_>, graph: Option<&BlockGraph>) -> Tensor {
        let width = normed.size()[2];
        let qkv = self.tuned(LinearSite::Qkv, tuners);
        let q = self.split_heads(&qkv.columns(&normed.narrow(1, 0, 1), &(0..width), graph));
        let kv = qkv.columns(normed, &(width..3 * width), graph).chunk(2, -1);
        merge_heads(&self.scaled_dot_product(&q, &self.split_heads(&kv[0]), &self.split_heads(&kv[1])))
    }

    fn split_heads(&self, x: &Tensor) -> Tensor {
        split_heads(x, self.heads)
    }

    /// `[images, heads, tokens, head width]`: four dimensions, which fused kernels require.
    fn scaled_dot_product(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let causal = self.attention == Attention::Causal;
        Tensor::scaled_dot_product_attention(q, k, v, None::<Tensor>, 0.0, causal, None, false)
    }
}

/// A linear layer of a block, as modified by tuners.
struct TunedLinear<'a> {
    site: LinearSite,
    own: &'a Linear,
    replaced: Option<Linear>,
    tuners: Tuners<'a>,
    bias_factor: f64,
}

impl TunedLinear<'_> {
    fn bias_times(self, bias_factor: f64) -> Self {
        Self { bias_factor, ..self }
    }

    fn forward(&self, x: &Tensor, graph: Option<&BlockGraph>) -> Tensor {
        self.columns(x, &(0..self.own.weight.size()[0]), graph)
    }

    /// Some of the outputs.
    fn columns(&self, x: &Tensor, columns: &Range<i64>, graph: Option<&BlockGraph>) -> Tensor {
        let layer = self.replaced.as_ref().unwrap_or(self.own);
        let y = layer.rows(columns.clone()).bias_times(self.bias_factor).apply(x, graph);
        self.tuners.iter().fold(y, |y, tuner| tuner.linear(self.site, x, columns, y))
    }
}

/// `[images, tokens, 3 width]` to queries, keys and values, each `[images, heads, tokens, head width]`, as views.
pub fn split_qkv(qkv: &Tensor, heads: i64) -> [Tensor; 3] {
    let parts = qkv.chunk(3, -1);
    [&parts[0], &parts[1], &parts[2]].map(|part| split_heads(part, heads))
}

/// `[images, tokens, width]` to `[images, heads, tokens, head width]`, as a view.
fn split_heads(x: &Tensor, heads: i64) -> Tensor {
    let (n, tokens, width) = dims(x);
    x.view([n, tokens, heads, width / heads]).transpose(1, 2)
}

fn tuned_norm(site: NormSite, y: Tensor, tuners: Tuners<'_>) -> Tensor {
    tuners.iter().fold(y, |y, tuner| tuner.norm(site, y))
}

fn scaled(y: Tensor, scale: Option<&Tensor>) -> Tensor {
    match scale {
        Some(scale) => y * scale,
        None => y,
    }
}

fn dims(x: &Tensor) -> (i64, i64, i64) {
    let size = x.size();
    (size[0], size[1], size[2])
}

fn merge_heads(x: &Tensor) -> Tensor {
    x.transpose(1, 2).flatten(2, 3)
}
