//! `[checkpoint]`: what a run saves of itself on its way.

use super::MAX_COUNT;
use super::head::TRAINED;
use crate::options::{section, words};

section! {
    /// What a run saves of itself on its way.
    pub struct CheckpointOptions in "checkpoint" {
        /// Steps between two checkpoints; 0 is no limit.
        #[range(..=MAX_COUNT)]
        #[needs(TRAINED)]
        #[resume(Free)]
        pub every_steps: u64 = 0,
        /// Seconds between two checkpoints; 0 is no limit. A run that is asked to stop saves in any case.
        #[range(0.0..=1e8)]
        #[needs(TRAINED)]
        #[resume(Free)]
        pub every_seconds: f64 = 300.0,
        /// Latest checkpoints that are kept.
        #[range(1..=1000)]
        #[needs(TRAINED)]
        #[resume(Free)]
        pub keep: u64 = 2,
        /// Also kept: the checkpoint after the evaluation with the greatest value of this.
        #[needs(TRAINED)]
        pub best: BestMetric = BestMetric::None,
        /// Checkpoints in a row that may fail to be written before the run ends.
        #[range(1..=1000)]
        #[needs(TRAINED)]
        #[resume(Free)]
        pub max_failures: u64 = 3,
    }
}

words! {
    /// What tells the best evaluation.
    pub enum BestMetric {
        /// None is kept for being the best.
        None = "none",
        /// Share of all test images that are right.
        Accuracy = "accuracy",
        /// Mean over the classes.
        MeanClassAccuracy = "mean_class_accuracy",
        /// Share of the test images of rare classes that are right.
        Few = "few",
        /// Mean F1 score of the classes.
        MacroF1 = "macro_f1",
    }
}
