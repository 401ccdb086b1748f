//! Losses. Each gives the sum over its samples and its own normaliser, so that the mean over a global
//! batch is exact however the batch is divided.

use std::ops::Range;
use tch::{Kind, Reduction, Tensor};

/// A loss over some of the samples of a global batch.
#[derive(Debug)]
pub struct LossSum {
    /// Sum over the samples.
    pub sum: Tensor,
    /// What the sum over all parts of the batch is divided by.
    pub normaliser: f64,
}

/// The training objective.
#[derive(Debug)]
pub enum Loss {
    /// Cross entropy.
    CrossEntropy,
    /// Logit adjustment (Menon et al., 2021, eq. 10): cross entropy of `logits + tau log(prior)`.
    LogitAdjusted {
        /// `tau * log(prior)`, `[classes]`.
        adjustment: Tensor,
    },
}

impl Loss {
    /// Logit adjustment for classes that are drawn with these probabilities (they need not sum to one).
    ///
    /// A class of probability zero is adjusted by minus infinity: no sample is ever pushed towards it or
    /// away from it.
    pub fn logit_adjusted(prior: &[f64], tau: f64, kind: Kind, device: tch::Device) -> Self {
        let total: f64 = prior.iter().sum();
        let adjustment: Vec<f64> = prior.iter().map(|p| tau * (p / total).ln()).collect();
        Self::LogitAdjusted { adjustment: Tensor::from_slice(&adjustment).to_kind(kind).to_device(device) }
    }

    /// `logits`: `[n, classes]`; `labels`: `[n]`, int64. The normaliser is the number of samples.
    pub fn forward(&self, logits: &Tensor, labels: &Tensor) -> LossSum {
        let sum = self.adjust(logits).cross_entropy_loss(labels, None::<Tensor>, Reduction::Sum, -100, 0.0);
        LossSum { sum, normaliser: labels.numel() as f64 }
    }

    /// The logits whose cross entropy the loss is: `[n, classes]`.
    pub fn adjust(&self, logits: &Tensor) -> Tensor {
        match self {
            Self::CrossEntropy => logits.shallow_clone(),
            Self::LogitAdjusted { adjustment } => logits + adjustment,
        }
    }

    /// The same loss for logits of a range of the classes only, to be joined with those of the others.
    #[must_use]
    pub fn of_classes(&self, classes: &Range<i64>) -> Self {
        match self {
            Self::CrossEntropy => Self::CrossEntropy,
            Self::LogitAdjusted { adjustment } => Self::LogitAdjusted {
                adjustment: adjustment.narrow(0, classes.start, classes.end - classes.start),
            },
        }
    }
}
