//! The three layers that transformers are made of.

use super::fp8::Fp8Matrix;
use super::gpu_kernels::ScaledNorm;
use super::graph::BlockGraph;
use super::precision::{FrozenProducts, Kernels, Precision};
use crate::aten::{self, backward_from};
use std::fmt;
use std::ops::Range;
use tch::{Device, Kind, TchError, Tensor};

/// `y = x W^T + b`, computed in `precision.compute`.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
    compute: Kind,
    kernels: Kernels,
    frozen: Frozen,
}

/// How a layer is computed whose weight is frozen.
#[derive(Debug)]
enum Frozen {
    /// As every layer.
    Compute,
    /// In fp8, with this weight.
    Fp8(Fp8Matrix),
    /// In fp32.
    Fp32,
}

impl Linear {
    /// Tensors that may be trainable are converted to `precision.compute` at use, which is free if they already have
    /// that element type; frozen tensors should be given in it.
    pub fn new(weight: Tensor, bias: Tensor, precision: Precision) -> Self {
        Self { weight, bias, compute: precision.compute, kernels: precision.kernels, frozen: Frozen::Compute }
    }

    /// A layer with other weights, computed in the same way.
    #[must_use]
    pub fn with(&self, weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias, compute: self.compute, kernels: self.kernels, frozen: Frozen::Compute }
    }

    /// Sets how it is computed if its weight is frozen. The weight itself stays what it is.
    pub fn compute_frozen(&mut self, way: FrozenProducts) -> Result<(), TchError> {
        // The copy of another way is freed first.
        self.frozen = Frozen::Compute;
        if self.weight.requires_grad() {
            return Ok(());
        }
        self.frozen = match way {
            FrozenProducts::Compute => Frozen::Compute,
            FrozenProducts::Fp8 => Frozen::Fp8(Fp8Matrix::of(&self.weight)?),
            FrozenProducts::Fp32 => Frozen::Fp32,
        };
        Ok(())
    }

    /// How it is computed.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// `[..., in] -> [..., out]`, in `precision.compute`, recorded by autograd.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_in(x, None)
    }

    /// The same, recorded in `graph` if there is one.
    pub fn forward_in(&self, x: &Tensor, graph: Option<&BlockGraph>) -> Tensor {
        self.rows(0..self.weight.size()[0]).apply(x, graph)
    }

    /// Some of the outputs.
    pub fn rows(&self, rows: Range<i64>) -> LinearRows<'_> {
        LinearRows { layer: self, rows, bias_factor: 1.0 }
    }
}

/// Some of the outputs of a linear layer, with its bias times a factor.
#[derive(Debug)]
pub struct LinearRows<'a> {
    layer: &'a Linear,
    rows: Range<i64>,
    bias_factor: f64,
}

impl LinearRows<'_> {
    /// With the bias times a factor: the outputs times that factor, if the input is times that factor too.
    #[must_use]
    pub fn bias_times(self, bias_factor: f64) -> Self {
        Self { bias_factor, ..self }
    }

    /// `[..., in] -> [..., rows]`; recorded in `graph` if there is one, else by autograd.
    pub fn apply(&self, x: &Tensor, graph: Option<&BlockGraph>) -> Tensor {
        let Linear { weight, bias, compute, kernels, frozen } = self.layer;
        let all = self.rows.end - self.rows.start == weight.size()[0];
        let part = |tensor: &Tensor| {
            let part = if all {
                tensor.shallow_clone()
            } else {
                tensor.narrow(0, self.rows.start, self.rows.end - self.rows.start)
            };
            part.to_kind(*compute)
        };
        let bias = if self.bias_factor == 1.0 { part(bias) } else { part(bias) * self.bias_factor };
        if let Frozen::Fp32 = frozen {
            let single = |tensor: &Tensor| tensor.to_kind(Kind::Float);
            return single(x).linear(&single(&part(weight)), Some(&single(&bias)));
        }
        let layer = Product { x: x.to_kind(*compute), weight: part(weight), bias };
        if let Frozen::Fp8(weight) = frozen
            && let Some(y) =
                layer.in_fp8(&weight.rows(self.rows.start, self.rows.end - self.rows.start), graph)
        {
            return y;
        }
        let fast = *kernels == Kernels::Fused
            && *compute == Kind::Float
            && x.device() == Device::Cpu
            && aten::products_are_fast();
        fast.then(|| layer.outside_autograd(graph)).flatten().unwrap_or_else(|| layer.by_autograd())
    }
}

/// `x W^T + b`.
struct Product {
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
}

impl Product {
    fn by_autograd(&self) -> Tensor {
        self.x.linear(&self.weight, Some(&self.bias))
    }

    /// The product by oneDNN, cut out of `graph`. None if autograd has to record it, or if oneDNN refuses it.
    fn outside_autograd(&self, graph: Option<&BlockGraph>) -> Option<Tensor> {
        let Self { x, weight, bias } = self;
        let recorded = x.requires_grad() || weight.requires_grad() || bias.requires_grad();
        if graph.is_none() && recorded {
            return None;
        }
        let y = aten::product(&x.detach().contiguous(), &weight.detach(), Some(&bias.detach())).ok()?;
        Some(match graph {
            Some(graph) if recorded => graph.cut(x, &y, self.backward()),
            _ => y,
        })
    }

    /// The product in fp8, cut out of `graph`, with a backward pass in the type of the run. None if autograd has to record it.
    ///
    /// # Panics
    /// As every operation of tch: if memory runs out, with libtorch's message.
    fn in_fp8(&self, in_fp8: &Fp8Matrix, graph: Option<&BlockGraph>) -> Option<Tensor> {
        let Self { x, weight, bias } = self;
        let recorded = x.requires_grad() || bias.requires_grad();
        if graph.is_none() && recorded {
            return None;
        }
        let product = in_fp8.product(&x.detach(), &bias.detach());
        let y = product.unwrap_or_else(|error| panic!("a product in fp8 failed: {error}"));
        let Some(graph) = graph.filter(|_| recorded) else { return Some(y) };
        let (of_input, weight) = (x.requires_grad(), weight.detach());
        let bias = bias.requires_grad().then(|| bias.shallow_clone());
        Some(graph.cut(x, &y, move |gradient| {
            pass_to_bias(bias.as_ref(), gradient);
            of_input.then(|| gradient.matmul(&weight))
        }))
    }

    /// From the gradient of the output to that of the input; trained weights and biases get theirs on the way.
    fn backward(&self) -> impl FnOnce(&Tensor) -> Option<Tensor> + 'static {
        let (of_input, trained) = (self.x.requires_grad(), self.weight.requires_grad());
        let weight = self.weight.shallow_clone();
        let x = trained.then(|| self.x.detach());
        let bias = self.bias.requires_grad().then(|| self.bias.shallow_clone());
        move |gradient| {
            let gradient = gradient.contiguous();
            pass_to_bias(bias.as_ref(), &gradient);
            if let Some(x) = x {
                let (rows, columns) = (gradient.flatten(0, -2), x.flatten(0, -2));
                backward_from(&weight, &multiplied(&rows.tr(), &columns), true);
            }
            of_input.then(|| multiplied(&gradient, &weight.detach()))
        }
    }
}

/// Adds the gradient of a bias, if it is trained.
fn pass_to_bias(bias: Option<&Tensor>, gradient: &Tensor) {
    if let Some(bias) = bias {
        let over_rows = gradient.flatten(0, -2).sum_dim_intlist([0i64].as_slice(), false, bias.kind());
        backward_from(bias, &over_rows, true);
    }
}

/// `[..., k] x [k, n]` in fp32 on the CPU, without a graph.
fn multiplied(a: &Tensor, b: &Tensor) -> Tensor {
    aten::product(a, &b.tr(), None).unwrap_or_else(|_| a.matmul(b))
}

/// Layer normalisation over the last dimension.
#[derive(Debug)]
pub struct LayerNorm {
    /// `[width]`.
    pub weight: Tensor,
    /// `[width]`.
    pub bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// `eps` is 1e-5 in CLIP and in adapters, 1e-6 in timm's ViT, 1e-12 in Hugging Face's.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias, eps }
    }

    /// What is added to the variance.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// The norm with its output times a factor, for kernels.
    pub fn times(&self, factor: f64) -> ScaledNorm<'_> {
        ScaledNorm { norm: self, factor }
    }

    /// Whether weight or bias are trained.
    pub fn is_trained(&self) -> bool {
        self.weight.requires_grad() || self.bias.requires_grad()
    }

    /// `[..., width] -> [..., width]`, in the element type of the input. A GPU takes weights of that type only.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let [weight, bias] = [&self.weight, &self.bias].map(|tensor| tensor.to_kind(x.kind()));
        x.layer_norm(weight.size().as_slice(), Some(&weight), Some(&bias), self.eps, false)
    }

    /// The output times a factor, in one pass.
    pub fn forward_times(&self, x: &Tensor, factor: f64) -> Tensor {
        self.scaled(factor).forward(x)
    }

    fn scaled(&self, factor: f64) -> Self {
        Self { weight: &self.weight * factor, bias: &self.bias * factor, eps: self.eps }
    }
}

/// The non-linearity of a block's MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x sigmoid(1.702 x)`, as in CLIP.
    QuickGelu,
    /// Exact GELU, as in timm's ViT and in most models of `open_clip`.
    Gelu,
    /// GELU with tanh in place of the error function.
    GeluTanh,
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QuickGelu => "quick_gelu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
        })
    }
}

/// The factor of [`Activation::QuickGelu`].
pub const QUICK_GELU: f64 = 1.702;

impl Activation {
    /// Elementwise.
    pub fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Self::QuickGelu => (x * QUICK_GELU).sigmoid_() * x,
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::no_grad;

    fn numbers(shape: &[i64], factor: f64, kind: Kind) -> Tensor {
        let places = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        (places * factor).sin().to_kind(kind).view(shape)
    }

    /// The gradient of the input is that of the original weight, and a trained bias gets its own.
    #[test]
    fn a_frozen_layer_in_fp8_has_the_gradients_of_its_weight() {
        let kind = Kind::BFloat16;
        let run = |way| {
            let bias = numbers(&[32], 0.3, kind).set_requires_grad(true);
            let mut layer = Linear::new(numbers(&[32, 16], 1.3, kind), bias, Precision::BF16);
            layer.compute_frozen(way).unwrap();
            let x = numbers(&[2, 3, 16], 0.7, kind).set_requires_grad(true);
            let graph = BlockGraph::default();
            let y = layer.rows(16..32).apply(&x, Some(&graph));
            graph.close();
            let value = y.detach();
            graph.backward(y, &numbers(&[2, 3, 16], 0.9, kind));
            [value, x.grad(), layer.bias.grad()].map(|tensor| tensor.to_kind(Kind::Double))
        };
        let (plain, fp8) = (run(FrozenProducts::Compute), run(FrozenProducts::Fp8));
        let away = |place: usize| (&plain[place] - &fp8[place]).abs().max().double_value(&[]);
        assert!((1e-4..0.5).contains(&away(0)), "{}", away(0));
        assert!(away(1) < 0.05 && away(2) < 0.05, "{} {}", away(1), away(2));
    }

    #[test]
    fn a_trained_weight_stays_in_the_type_of_the_run() {
        let weight = numbers(&[32, 16], 1.3, Kind::Float).set_requires_grad(true);
        let mut layer = Linear::new(weight, numbers(&[32], 0.3, Kind::Float), Precision::BF16);
        let x = numbers(&[3, 16], 0.7, Kind::BFloat16);
        let before = no_grad(|| layer.forward(&x));
        layer.compute_frozen(FrozenProducts::Fp8).unwrap();
        assert_eq!(no_grad(|| layer.forward(&x)), before);
    }
}
