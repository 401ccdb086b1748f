//! Logit adjustment (LIFT: `LA`; Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, eq. 10).
//!
//! Cross entropy of `z + tau log(prior)`: the classifier that minimises it is balanced once the adjustment is left
//! out, as it is in evaluation.

use super::{Loss, LossContext, MakeLoss, frequencies};
use crate::options::{Declared, Method, Values, section};
use std::ops::Range;
use tch::Tensor;

section! {
    /// Options of logit adjustment.
    pub struct LogitAdjustedOptions in "loss" {
        /// Weight of the log prior that is added to the logits.
        #[range(0.0..)]
        pub tau: f64 = 1.0,
    }
}

/// The entry in the registry.
pub const METHOD: Method<MakeLoss> = Method {
    word: "logit_adjusted",
    about: "Logit adjustment: cross entropy of the logits plus `loss.tau` times the log prior (LIFT).",
    official: &["LA"],
    options: &[&LogitAdjustedOptions::SECTION, &frequencies::FrequencyOptions::SECTION],
    make: |values, site| {
        Box::new(LogitAdjusted::new(values, site, values.read::<LogitAdjustedOptions>().tau))
    },
};

/// A constant for each class, added to its logit.
#[derive(Debug)]
pub(super) struct LogitAdjusted {
    /// `tau log(prior)`, `[classes]`.
    adjustment: Tensor,
}

impl LogitAdjusted {
    pub(super) fn new(values: &Values, site: &LossContext<'_>, tau: f64) -> Self {
        let adjustment: Vec<f64> = site.prior(values).shares().iter().map(|share| tau * share.ln()).collect();
        Self { adjustment: site.tensor(&adjustment) }
    }
}

impl Loss for LogitAdjusted {
    fn adjust(&self, logits: Tensor, _: &Tensor, own: &Range<i64>) -> Tensor {
        logits + self.adjustment.narrow(0, own.start, own.end - own.start)
    }
}
