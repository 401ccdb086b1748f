//! The columns of a batch's logits, for a loss that is a function of the whole batch.
//!
//! Such a loss needs a few numbers per class. Each part of a batch computes its own, these are combined, and then each
//! part computes its share of the loss and its gradient in closed form. So law 1 holds for such a loss too.

use std::fmt::Debug;
use tch::{Kind, Tensor, no_grad};

/// A term of a loss that depends on whole columns of the global batch's logits.
pub trait ColumnTerm: Debug {
    /// The term for the samples of a part of the batch whose columns are `columns`; logits `[n, classes]`.
    fn of_part(&self, columns: &Columns, logits: &Tensor, labels: &Tensor) -> Term;
}

/// What a term gives for a part of a batch.
#[derive(Debug)]
pub struct Term {
    /// The part's share of the sum over the batch, one number.
    pub share: Tensor,
    /// Gradient of the sum over the batch at the part's logits, `[n, classes]`.
    pub gradient: Tensor,
}

impl Term {
    /// The share, as a tensor from which autograd takes this gradient to the logits.
    pub(super) fn with_gradient_at(&self, logits: &Tensor) -> Tensor {
        let product = (logits * &self.gradient).sum(logits.kind());
        &self.share + (&product - product.detach())
    }
}

/// Statistics of the logits of each class over the samples of a batch or of a part of it.
#[derive(Debug)]
pub struct Columns {
    /// The greatest logit, `[classes]`; minus infinity without samples.
    greatest: Tensor,
    /// `[3, classes]`: the sum of exponentials of logits less the greatest; the samples that have the class as their
    /// label; the sum of their logits of it.
    sums: Tensor,
}

impl Columns {
    /// Of these samples: logits `[n, classes]`, labels `[n]`.
    pub fn of(logits: &Tensor, labels: &Tensor) -> Self {
        no_grad(|| {
            let over_samples =
                |values: &Tensor| values.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
            let greatest = logits.amax([0i64].as_slice(), false);
            let exponentials = over_samples(&(logits - &greatest).exp());
            let classes = Tensor::arange(logits.size()[1], (Kind::Int64, logits.device()));
            let is_label = labels.unsqueeze(1).eq_tensor(&classes);
            let of_label = logits.where_self(&is_label, &logits.zeros_like());
            let sums = [exponentials, over_samples(&is_label), over_samples(&of_label)];
            Self { greatest: greatest.to_kind(Kind::Double), sums: Tensor::stack(&sums, 0) }
        })
    }

    /// Of no samples.
    pub fn none(classes: i64, device: tch::Device) -> Self {
        let options = (Kind::Double, device);
        Self {
            greatest: Tensor::full([classes], f64::NEG_INFINITY, options),
            sums: Tensor::zeros([3, classes], options),
        }
    }

    /// Of parts of a batch, from their greatest logits and the sum of their [`sums_below`](Self::sums_below) these.
    pub fn joined(greatest: Tensor, sums: Tensor) -> Self {
        Self { greatest, sums }
    }

    /// Of these samples and those.
    #[must_use]
    pub fn with(&self, more: &Self) -> Self {
        let greatest = self.greatest.maximum(&more.greatest);
        let sums = self.sums_below(&greatest) + more.sums_below(&greatest);
        Self { greatest, sums }
    }

    /// The greatest logits, `[classes]`, in double precision.
    pub fn greatest(&self) -> &Tensor {
        &self.greatest
    }

    /// The sums, `[3, classes]` in double precision, for exponentials of logits less `greatest`. Those of several parts
    /// are added up.
    pub fn sums_below(&self, greatest: &Tensor) -> Tensor {
        let factor = (&self.greatest - greatest).exp();
        let ones = factor.ones_like();
        &self.sums * Tensor::stack(&[&factor, &ones, &ones], 0)
    }

    /// The number of samples.
    pub(super) fn samples(&self) -> Tensor {
        self.counts().sum(Kind::Double)
    }

    /// Samples of each class.
    pub(super) fn counts(&self) -> Tensor {
        self.sums.get(1)
    }

    /// Sums over the samples of each class of their logits of it.
    pub(super) fn of_labels(&self) -> Tensor {
        self.sums.get(2)
    }

    /// Logarithms of the sums of exponentials of each class's logits.
    pub(super) fn log_sums(&self) -> Tensor {
        self.sums.get(0).log() + &self.greatest
    }

    /// The share of each logit's exponential in the sum of its column: `[n, classes]`, in the kind of the logits.
    pub(super) fn softmax(&self, logits: &Tensor) -> Tensor {
        let kind = logits.kind();
        (logits - self.greatest.to_kind(kind)).exp() / self.sums.get(0).to_kind(kind)
    }

    /// The same statistics once more.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self { greatest: self.greatest.shallow_clone(), sums: self.sums.shallow_clone() }
    }
}
