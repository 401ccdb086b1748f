//! The three layers that transformers are made of.

use super::precision::Precision;
use std::fmt;
use std::ops::Range;
use tch::{Kind, Tensor};

/// `y = x W^T + b`, computed in `precision.compute`.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
    compute: Kind,
}

impl Linear {
    /// Tensors that may be trainable are converted to `precision.compute` at use, which is free if they already have
    /// that element type; frozen tensors should be given in it.
    pub fn new(weight: Tensor, bias: Tensor, precision: Precision) -> Self {
        Self { weight, bias, compute: precision.compute }
    }

    /// A layer with other weights, computed in the same element type.
    #[must_use]
    pub fn with(&self, weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias, compute: self.compute }
    }

    /// `[..., in] -> [..., out]`, in `precision.compute`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.apply(x, &self.weight, &self.bias)
    }

    /// Some of the outputs only.
    pub fn forward_rows(&self, x: &Tensor, rows: &Range<i64>) -> Tensor {
        let length = rows.end - rows.start;
        if length == self.weight.size()[0] {
            return self.forward(x);
        }
        self.apply(x, &self.weight.narrow(0, rows.start, length), &self.bias.narrow(0, rows.start, length))
    }

    fn apply(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        let compute = self.compute;
        x.to_kind(compute).linear(&weight.to_kind(compute), Some(bias.to_kind(compute)))
    }
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

    /// `[..., width] -> [..., width]`, in the element type of the weights.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let width = self.weight.size();
        x.layer_norm(width.as_slice(), Some(&self.weight), Some(&self.bias), self.eps, false)
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

impl Activation {
    /// Elementwise.
    pub fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Self::QuickGelu => (x * 1.702).sigmoid_() * x,
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
        }
    }
}
