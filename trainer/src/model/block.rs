//! One pre-norm transformer block, from hidden state to hidden state, with tuners inside and beside it.

use super::backbone_config::TowerConfig;
use super::layers::{Activation, LayerNorm, Linear};
use super::precision::Precision;
use super::tower::{Field, LinearSite, NormSite, UnitTuner};
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
}

/// Tuners of one block, in the order in which they act.
type Tuners<'a> = &'a [Box<dyn UnitTuner>];

impl Block {
    /// `x`: `[images, tokens, width]`. `OutputRows::First` gives `[images, 1, width]`, at the cost of keys and
    /// values for all tokens and the rest for one.
    pub fn forward(&self, x: &Tensor, rows: OutputRows, tuners: Tuners<'_>) -> Tensor {
        let x = tuners.iter().fold(x.shallow_clone(), |x, tuner| tuner.enter(x));
        let normed = self.norm(NormSite::First, &x, tuners);
        let (attended, x) = match rows {
            OutputRows::All => (self.attend_all(&normed, tuners), x),
            OutputRows::First => (self.attend_first(&normed, tuners), x.narrow(1, 0, 1)),
        };
        let x = x + scaled(self.linear(LinearSite::Proj, &attended, tuners), self.scale1.as_ref());
        let read = self.norm(NormSite::Second, &x, tuners);
        let hidden = self.activation.forward(&self.linear(LinearSite::Fc1, &read, tuners));
        let hidden = tuners.iter().fold(hidden, |hidden, tuner| tuner.hidden(hidden));
        let y = scaled(self.linear(LinearSite::Fc2, &hidden, tuners), self.scale2.as_ref());
        let y = tuners.iter().fold(y, |y, tuner| tuner.mlp(y));
        let beside = tuners.iter().filter_map(|tuner| tuner.beside_mlp(&x));
        beside.fold(&x + y, |out, y| out + y)
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

    fn norm(&self, site: NormSite, x: &Tensor, tuners: Tuners<'_>) -> Tensor {
        let norm = match site {
            NormSite::First => &self.norm1,
            NormSite::Second => &self.norm2,
        };
        tuners.iter().fold(norm.forward(x), |y, tuner| tuner.norm(site, y))
    }

    fn linear(&self, site: LinearSite, x: &Tensor, tuners: Tuners<'_>) -> Tensor {
        let layer = self.tuned(site, tuners);
        layer.columns(x, &(0..layer.outputs()))
    }

    fn tuned<'a>(&'a self, site: LinearSite, tuners: Tuners<'a>) -> TunedLinear<'a> {
        let own = self.layer(site);
        let replaced = tuners.iter().find_map(|tuner| tuner.replace(site, own));
        TunedLinear { site, own, replaced, tuners }
    }

    fn layer(&self, site: LinearSite) -> &Linear {
        match site {
            LinearSite::Qkv => &self.qkv,
            LinearSite::Proj => &self.proj,
            LinearSite::Fc1 => &self.fc1,
            LinearSite::Fc2 => &self.fc2,
        }
    }

    fn attend_all(&self, normed: &Tensor, tuners: Tuners<'_>) -> Tensor {
        let (n, tokens, width) = dims(normed);
        let heads = self.heads;
        let qkv = self.linear(LinearSite::Qkv, normed, tuners);
        let qkv = qkv.view([n, tokens, 3, heads, width / heads]).permute([2, 0, 3, 1, 4]);
        let (q, k, v) = (qkv.select(0, 0), qkv.select(0, 1), qkv.select(0, 2));
        merge_heads(&self.scaled_dot_product(&q, &k, &v))
    }

    fn attend_first(&self, normed: &Tensor, tuners: Tuners<'_>) -> Tensor {
        let (n, tokens, width) = dims(normed);
        let (heads, head_width) = (self.heads, width / self.heads);
        let first = normed.narrow(1, 0, 1);
        let qkv = self.tuned(LinearSite::Qkv, tuners);
        let q = qkv.columns(&first, &(0..width));
        let q = q.view([n, 1, heads, head_width]).transpose(1, 2);
        let kv = qkv.columns(normed, &(width..3 * width));
        let kv = kv.view([n, tokens, 2, heads, head_width]).permute([2, 0, 3, 1, 4]);
        merge_heads(&self.scaled_dot_product(&q, &kv.select(0, 0), &kv.select(0, 1)))
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
}

impl TunedLinear<'_> {
    fn outputs(&self) -> i64 {
        self.own.weight.size()[0]
    }

    /// Some of the outputs.
    fn columns(&self, x: &Tensor, columns: &Range<i64>) -> Tensor {
        let y = self.replaced.as_ref().unwrap_or(self.own).forward_rows(x, columns);
        self.tuners.iter().fold(y, |y, tuner| tuner.linear(self.site, x, columns, y))
    }
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
