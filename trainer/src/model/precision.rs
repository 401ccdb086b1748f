//! Which floating-point kinds a run computes in.

use tch::Kind;

/// Kinds of one run: trainable tensors, norms, residual stream, head and loss are kept in
/// `parameters`; matrix products and attention run in `compute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    /// Kind of everything that is added up or optimised.
    pub parameters: Kind,
    /// Kind of matrix products.
    pub compute: Kind,
}

impl Precision {
    /// Single precision throughout.
    pub const FP32: Self = Self { parameters: Kind::Float, compute: Kind::Float };
    /// Products in bfloat16, the rest in single precision.
    pub const BF16: Self = Self { parameters: Kind::Float, compute: Kind::BFloat16 };
    /// Double precision throughout, for comparing with references.
    pub const FP64: Self = Self { parameters: Kind::Double, compute: Kind::Double };
}
