//! `[loss]`: what is minimised.

use super::super::section::{section, words};

section! {
    /// What is minimised.
    pub struct Loss in "loss" {
        /// Which loss.
        pub kind: LossKind,
        /// Weight of the logarithm of the prior that is added to the logits, 0 or more. Takes effect with
        /// `loss.kind = "logit_adjusted"`.
        pub tau: f64,
        /// Which class frequencies are the prior. Takes effect with `loss.kind = "logit_adjusted"`.
        pub prior: Prior,
    }
}

words! {
    /// Losses.
    pub enum LossKind {
        /// Cross entropy of logits with `loss.tau` times the logarithm of the prior added (LIFT).
        LogitAdjusted = "logit_adjusted",
        /// Plain cross entropy.
        CrossEntropy = "cross_entropy",
    }
}

words! {
    /// Class frequencies.
    pub enum Prior {
        /// Those that the sampler really draws.
        Sampler = "sampler",
        /// Those of the training list.
        Counts = "counts",
    }
}
