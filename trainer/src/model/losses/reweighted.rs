//! Generalised re-weighting (LIFT: `GRW`; Zhang et al., "Distribution Alignment: A Unified Framework for Long-Tail
//! Visual Recognition", CVPR 2021).
//!
//! Cross entropy with weights `share^-exponent` for a class that has this share of what is drawn. With an exponent of 1
//! all classes have the same weight in sum; so the shares follow `loss.prior`, and a sampler that balances the classes
//! leaves nothing to do.

use super::class_weighted::ClassWeighted;
use super::{MakeLoss, frequencies};
use crate::options::{Declared, Method, section};

section! {
    /// Options of generalised re-weighting.
    pub struct ReweightedOptions in "loss" {
        /// Exponent of the inverse class frequencies; 0 is cross entropy.
        #[range(0.0..)]
        pub exponent: f64 = 1.0,
    }
}

/// The entry in the registry.
pub const METHOD: Method<MakeLoss> = Method {
    word: "reweighted",
    about: "Generalised re-weighting: cross entropy weighted by inverse class frequencies to the power `loss.exponent`.",
    official: &["GRW"],
    options: &[&ReweightedOptions::SECTION, &frequencies::FrequencyOptions::SECTION],
    make: |values, site| {
        let exponent = values.read::<ReweightedOptions>().exponent;
        let weights: Vec<f64> =
            site.prior(values).shares().iter().map(|share| share.powf(-exponent)).collect();
        Box::new(ClassWeighted::new(site, &weights))
    },
};
