//! The floating-point types that a run computes in.

use tch::Kind;

/// Kinds of one run: trainable tensors, norms, residual stream, head and loss are kept in
/// `parameters`; matrix products and attention run in `compute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    /// Element type of everything that is accumulated or optimised.
    pub parameters: Kind,
    /// Element type of matrix products.
    pub compute: Kind,
    /// How blocks are computed.
    pub kernels: Kernels,
}

/// How blocks are computed. Both ways are equal up to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// As the equations are written, by libtorch's own choice of operations.
    Plain,
    /// In fewer passes over memory, and by the faster of several libraries.
    Fused,
}

/// How frozen layers of the blocks are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrozenProducts {
    /// In the type of the run.
    Compute,
    /// In fp8, from a second copy of the weights.
    Fp8,
    /// In fp32, from the weights of the run: the reference for errors.
    Fp32,
}

impl Precision {
    /// Single precision throughout.
    pub const FP32: Self = Self { parameters: Kind::Float, compute: Kind::Float, kernels: Kernels::Fused };
    /// Products in bfloat16, the rest in single precision.
    pub const BF16: Self = Self { parameters: Kind::Float, compute: Kind::BFloat16, kernels: Kernels::Fused };
    /// Products in half precision, whose gradients need a factor on the loss; the rest in single precision.
    pub const FP16: Self = Self { parameters: Kind::Float, compute: Kind::Half, kernels: Kernels::Fused };
    /// Double precision throughout, for comparisons with references.
    pub const FP64: Self = Self { parameters: Kind::Double, compute: Kind::Double, kernels: Kernels::Fused };
}
