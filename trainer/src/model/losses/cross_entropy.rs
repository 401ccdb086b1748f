//! Cross entropy, the loss that knows nothing of class frequencies (LIFT: `CE`).
//!
//! `-log softmax(z)[y]`, for logits `z` of a sample and its label `y`.

use super::{Loss, MakeLoss};
use crate::options::Method;

/// The entry in the registry.
pub const METHOD: Method<MakeLoss> = Method {
    word: "cross_entropy",
    about: "Plain cross entropy.",
    official: &["CE"],
    options: &[],
    make: |_, _| Box::new(CrossEntropy),
};

/// Cross entropy as it is.
#[derive(Debug)]
struct CrossEntropy;

impl Loss for CrossEntropy {}
