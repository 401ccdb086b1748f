//! Balanced softmax (LIFT: `BS`; Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", `NeurIPS`
//! 2020).
//!
//! `-log(n[y] exp(z[y]) / sum_c n[c] exp(z[c]))` with `n` images of each class, which is logit adjustment with a `tau`
//! of 1.

use super::logit_adjusted::LogitAdjusted;
use super::registry::{Entry, Reads};

pub(super) const ENTRY: Entry = Entry {
    word: "balanced_softmax",
    official: "BS",
    about: "Balanced softmax: logit adjustment with the prior as it is.",
    reads: Reads::Prior,
    build: |build| Box::new(LogitAdjusted::new(build, 1.0)),
};
