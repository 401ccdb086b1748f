//! The floating-point types that a run computes in.

use tch::Kind;

/// Kinds of one run: trainable tensors, head and loss are kept in `parameters`; matrix products and attention run in
/// `compute`; the hidden state between them, and the norms that read it, are in `residual`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    /// Element type of everything that is accumulated or optimised.
    pub parameters: Kind,
    /// Element type of matrix products.
    pub compute: Kind,
    /// Element type of the residual stream and of frozen norms.
    pub residual: Kind,
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
    pub const FP32: Self = Self::of(Kind::Float, Kind::Float);
    /// Products in bfloat16, the rest in single precision.
    pub const BF16: Self = Self::of(Kind::Float, Kind::BFloat16);
    /// Products in half precision, whose gradients need a factor on the loss; the rest in single precision.
    pub const FP16: Self = Self::of(Kind::Float, Kind::Half);
    /// Double precision throughout, for comparisons with references.
    pub const FP64: Self = Self::of(Kind::Double, Kind::Double);

    const fn of(parameters: Kind, compute: Kind) -> Self {
        Self { parameters, compute, residual: parameters, kernels: Kernels::Fused }
    }

    /// With the residual stream in the precision of the parameters.
    #[must_use]
    pub const fn with_full_residual(self) -> Self {
        Self { residual: self.parameters, ..self }
    }

    /// With the residual stream in the precision of the products.
    #[must_use]
    pub const fn with_residual_of_products(self) -> Self {
        Self { residual: self.compute, ..self }
    }
}
