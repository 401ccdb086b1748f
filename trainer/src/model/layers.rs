//! The three layers that transformers are made of.

use super::gpu_kernels::ScaledNorm;
use super::graph::BlockGraph;
use super::precision::{Kernels, Precision};
use crate::aten::{self, backward_from};
use std::fmt;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// `y = x W^T + b`, computed in `precision.compute`.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
    compute: Kind,
    kernels: Kernels,
}

impl Linear {
    /// Tensors that may be trainable are converted to `precision.compute` at use, which is free if they already have
    /// that element type; frozen tensors should be given in it.
    pub fn new(weight: Tensor, bias: Tensor, precision: Precision) -> Self {
        Self { weight, bias, compute: precision.compute, kernels: precision.kernels }
    }

    /// A layer with other weights, computed in the same way.
    #[must_use]
    pub fn with(&self, weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias, compute: self.compute, kernels: self.kernels }
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
        let Linear { weight, bias, compute, kernels } = self.layer;
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
        let layer = Product { x: x.to_kind(*compute), weight: part(weight), bias };
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

    /// From the gradient of the output to that of the input; trained weights and biases get theirs on the way.
    fn backward(&self) -> impl FnOnce(&Tensor) -> Option<Tensor> + 'static {
        let (of_input, trained) = (self.x.requires_grad(), self.weight.requires_grad());
        let weight = self.weight.shallow_clone();
        let x = trained.then(|| self.x.detach());
        let bias = self.bias.requires_grad().then(|| self.bias.shallow_clone());
        move |gradient| {
            let gradient = gradient.contiguous();
            if let Some(bias) = bias {
                let over_rows =
                    gradient.flatten(0, -2).sum_dim_intlist([0i64].as_slice(), false, bias.kind());
                backward_from(&bias, &over_rows, true);
            }
            if let Some(x) = x {
                let (rows, columns) = (gradient.flatten(0, -2), x.flatten(0, -2));
                backward_from(&weight, &multiplied(&rows.tr(), &columns), true);
            }
            of_input.then(|| multiplied(&gradient, &weight.detach()))
        }
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

    /// `[..., width] -> [..., width]`, in the element type of the weights.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let width = self.weight.size();
        x.layer_norm(width.as_slice(), Some(&self.weight), Some(&self.bias), self.eps, false)
    }

    /// The output times a factor, in one pass.
    pub fn forward_times(&self, x: &Tensor, factor: f64) -> Tensor {
        let width = self.weight.size();
        x.layer_norm(
            width.as_slice(),
            Some(&self.weight * factor),
            Some(&self.bias * factor),
            self.eps,
            false,
        )
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
