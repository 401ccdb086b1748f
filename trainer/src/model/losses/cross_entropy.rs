//! Cross entropy, the loss that knows nothing of class frequencies (LIFT: `CE`).
//!
//! `-log softmax(z)[y]`, for logits `z` of a sample and its label `y`.

use super::Loss;
use super::registry::{Entry, Reads};

pub(super) const ENTRY: Entry = Entry {
    word: "cross_entropy",
    official: "CE",
    about: "Plain cross entropy.",
    reads: Reads::Nothing,
    build: |_| Box::new(CrossEntropy),
};

/// Cross entropy as it is.
#[derive(Debug)]
struct CrossEntropy;

impl Loss for CrossEntropy {}
