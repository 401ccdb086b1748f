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
}

impl Precision {
    /// Single precision throughout.
    pub const FP32: Self = Self { parameters: Kind::Float, compute: Kind::Float };
    /// Products in bfloat16, the rest in single precision.
    pub const BF16: Self = Self { parameters: Kind::Float, compute: Kind::BFloat16 };
    /// Double precision throughout, for comparisons with references.
    pub const FP64: Self = Self { parameters: Kind::Double, compute: Kind::Double };
}
