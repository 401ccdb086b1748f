//! Logit adjustment (LIFT: `LA`; Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, eq. 10).
//!
//! Cross entropy of `z + tau log(prior)`: the classifier that minimises it is balanced once the adjustment is left
//! out, as it is in evaluation.

use super::Loss;
use super::registry::{Build, Entry, Reads};
use std::ops::Range;
use tch::Tensor;

pub(super) const ENTRY: Entry = Entry {
    word: "logit_adjusted",
    official: "LA",
    about: "Logit adjustment: cross entropy of logits with `loss.tau` times the logarithm of the prior added (LIFT).",
    reads: Reads::Prior,
    build: |build| Box::new(LogitAdjusted::new(build, build.options.logit_adjusted.tau)),
};

/// Options of logit adjustment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Weight of the logarithm of the prior.
    pub tau: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { tau: 1.0 }
    }
}

/// A constant for each class, added to its logit.
#[derive(Debug)]
pub(super) struct LogitAdjusted {
    /// `tau log(prior)`, `[classes]`.
    adjustment: Tensor,
}

impl LogitAdjusted {
    pub(super) fn new(build: &Build<'_>, tau: f64) -> Self {
        let adjustment: Vec<f64> = build.frequencies.shares().iter().map(|share| tau * share.ln()).collect();
        Self { adjustment: build.tensor(&adjustment) }
    }
}

impl Loss for LogitAdjusted {
    fn adjust(&self, logits: Tensor, _: &Tensor, own: &Range<i64>) -> Tensor {
        logits + self.adjustment.narrow(0, own.start, own.end - own.start)
    }
}
