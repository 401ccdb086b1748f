//! Full fine-tuning among the tuners.

use super::{Make, TunerKind};
use crate::options::Method;

/// Full fine-tuning.
pub const METHOD: Method<Make> = Method {
    word: "full",
    about: "Every tensor of the blocks.",
    official: &["full_tuning"],
    options: &[],
    make: |_, site| TunerKind::Full { layers: site.blocks.clone() },
};
