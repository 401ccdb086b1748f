//! Logit adjustment among the losses.

use super::{Loss, Make};
use crate::options::{Declared, Method, section, words};

section! {
    /// Options of logit adjustment.
    pub struct Options in "loss" {
        /// Weight of the logarithm of the prior that is added to the logits.
        #[range(0.0..)]
        pub tau: f64 = 1.0,
        /// Which class frequencies are the prior.
        pub prior: Prior = Prior::Sampler,
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

/// Logit adjustment.
pub const METHOD: Method<Make> = Method {
    word: "logit_adjusted",
    about: "Cross entropy of logits with `loss.tau` times the logarithm of the prior added (LIFT).",
    official: &["LA"],
    options: &[&Options::SECTION],
    make: |values, site| {
        let Options { tau, prior } = values.read();
        Loss::logit_adjusted(&(site.frequencies)(prior), tau, site.kind, site.device)
    },
};
