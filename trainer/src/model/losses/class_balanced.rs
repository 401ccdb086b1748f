//! The class-balanced loss (LIFT: `CB`; Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR
//! 2019).
//!
//! Cross entropy with weights `(1 - beta) / (1 - beta^n)` for a class of `n` images: the inverse of the number of images
//! that are really different. That number is of the images that there are, so counts decide, whatever the sampler
//! draws.

use super::MakeLoss;
use super::class_weighted::ClassWeighted;
use super::frequencies::Prior;
use crate::options::{Declared, Method, section};

section! {
    /// Options of the class-balanced loss.
    pub struct ClassBalancedOptions in "loss" {
        /// Parameter of the effective number; 0 weights all classes equally, near 1 weights are inverse to counts.
        #[range(0.0..1.0)]
        pub beta: f64 = 0.9999,
    }
}

/// The entry in the registry.
pub const METHOD: Method<MakeLoss> = Method {
    word: "class_balanced",
    about: "Class-balanced loss: cross entropy weighted by the inverse effective number of images, by `loss.beta`.",
    official: &["CB"],
    options: &[&ClassBalancedOptions::SECTION],
    make: |values, site| {
        let beta = values.read::<ClassBalancedOptions>().beta;
        let counts = (site.frequencies)(Prior::Counts);
        let weights: Vec<f64> = counts.values().iter().map(|&n| weight(beta, n)).collect();
        Box::new(ClassWeighted::new(site, &weights))
    },
};

/// `1 - beta^n` as it stands would cancel: with a beta near one nothing of it is left in single precision.
fn weight(beta: f64, count: f64) -> f64 {
    (1.0 - beta) / -(count * beta.ln()).exp_m1()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_finite_and_exact_for_any_beta() {
        assert_eq!(weight(0.0, 3.0), 1.0);
        assert!((weight(0.9, 2.0) - 0.1 / 0.19).abs() < 1e-15);
        let inverse = weight(1.0 - 1e-12, 1000.0);
        assert!((inverse - 1e-3).abs() < 1e-9, "{inverse}");
    }
}
