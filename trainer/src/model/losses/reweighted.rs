//! Generalised re-weighting (LIFT: `GRW`; Zhang et al., "Distribution Alignment: A Unified Framework for Long-Tail
//! Visual Recognition", CVPR 2021).
//!
//! Cross entropy with weights `share^-exponent` for a class that has this share of what is drawn. With an exponent of 1
//! all classes have the same weight in sum; so the shares follow `loss.prior`, and a sampler that balances the classes
//! leaves nothing to do.

use super::class_weighted::ClassWeighted;
use super::registry::{Entry, Reads};

pub(super) const ENTRY: Entry = Entry {
    word: "reweighted",
    official: "GRW",
    about: "Generalised re-weighting: cross entropy weighted by inverse class frequencies to `loss.exponent`.",
    reads: Reads::Prior,
    build: |build| {
        let exponent = build.options.reweighted.exponent;
        let weights: Vec<f64> =
            build.frequencies.shares().iter().map(|share| share.powf(-exponent)).collect();
        Box::new(ClassWeighted::new(build, &weights))
    },
};

/// Options of generalised re-weighting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Exponent of the inverse frequency; 0 is cross entropy.
    pub exponent: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { exponent: 1.0 }
    }
}
