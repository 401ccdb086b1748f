//! Cross entropy with a weight for each class.

use super::{Loss, LossContext};
use tch::{Kind, Tensor};

/// A sample counts as much as its class weighs, in the sum as in the normaliser.
#[derive(Debug)]
pub(super) struct ClassWeighted {
    /// `[classes]`.
    weights: Tensor,
}

impl ClassWeighted {
    /// With these weights, scaled to a mean of one over the classes. That changes no loss, since the normaliser is
    /// scaled as well.
    pub(super) fn new(site: &LossContext<'_>, weights: &[f64]) -> Self {
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let weights: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
        Self { weights: site.tensor(&weights) }
    }

    fn of(&self, labels: &Tensor) -> Tensor {
        // A row without a sample has a label that is no class, and a loss of zero.
        self.weights.index_select(0, &labels.clamp_min(0))
    }
}

impl Loss for ClassWeighted {
    fn of_nll(&self, nll: &Tensor, labels: &Tensor) -> Option<Tensor> {
        Some(nll * self.of(labels))
    }

    fn normaliser(&self, labels: &Tensor) -> Tensor {
        self.of(labels).sum(Kind::Double)
    }
}
