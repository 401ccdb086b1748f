//! Balanced softmax (LIFT: `BS`; Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", `NeurIPS`
//! 2020).
//!
//! `-log(n[y] exp(z[y]) / sum_c n[c] exp(z[c]))` with `n` images of each class, which is logit adjustment with a `tau`
//! of 1.

use super::logit_adjusted::LogitAdjusted;
use super::{MakeLoss, frequencies};
use crate::options::{Declared, Method};

/// The entry in the registry.
pub const METHOD: Method<MakeLoss> = Method {
    word: "balanced_softmax",
    about: "Balanced softmax: logit adjustment with an unscaled prior.",
    official: &["BS"],
    options: &[&frequencies::FrequencyOptions::SECTION],
    make: |values, site| Box::new(LogitAdjusted::new(values, site, 1.0)),
};
