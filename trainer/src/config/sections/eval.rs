//! `[eval]`: testing.

use super::MAX_IMAGES;
use super::head::TRAINED;
use crate::options::{Needs, Values, holds, section};

/// A test would otherwise come after the end.
const WITHIN_THE_RUN: Needs = holds("train.epochs", "up to `train.epochs`", |values: &Values| {
    let [epochs, every] = ["train.epochs", "eval.every_epochs"].map(|key| values.of::<u64>(key));
    epochs == Some(0) || every <= epochs
});

section! {
    /// Testing.
    pub struct Eval in "eval" {
        /// Images that each rank tests at once; it changes memory and speed only.
        #[range(1..=MAX_IMAGES)]
        pub batch_size: u64 = 128,
        /// Epochs between two tests; 0 tests only at the end.
        #[needs(TRAINED, WITHIN_THE_RUN)]
        pub every_epochs: u64 = 0,
    }
}
