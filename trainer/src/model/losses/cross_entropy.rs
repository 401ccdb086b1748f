//! Cross entropy among the losses.

use super::{Loss, Make};
use crate::options::Method;

/// Cross entropy.
pub const METHOD: Method<Make> = Method {
    word: "cross_entropy",
    about: "Plain cross entropy.",
    official: &["CE"],
    options: &[],
    make: |_, _| Loss::CrossEntropy,
};
