//! `[checkpoint]`: what a run saves of itself on its way.

use super::MAX_COUNT;
use super::head::TRAINED;
use crate::options::{section, words};

section! {
    /// Checkpoints of a run.
    pub struct CheckpointOptions in "checkpoint" {
        /// Steps between two checkpoints; 0 disables this interval.
        #[range(..=MAX_COUNT)]
        #[needs(TRAINED)]
        #[resume(Free)]
        pub every_steps: u64 = 0,
        /// Seconds between two checkpoints; 0 disables this interval. A run that is asked to stop always saves.
        #[range(0.0..=1e8)]
        #[needs(TRAINED)]
        #[resume(Free)]
        pub every_seconds: f64 = 300.0,
        /// Number of newest checkpoints to keep.
        #[range(1..=1000)]
        #[needs(TRAINED)]
        #[resume(Free)]
        pub keep: u64 = 2,
        /// Metric of the best checkpoint. The checkpoint after the evaluation with the greatest value is also kept.
        #[needs(TRAINED)]
        pub best: BestMetric = BestMetric::None,
        /// Failed checkpoints in a row after which the run ends.
        #[range(1..=1000)]
        #[needs(TRAINED)]
        #[resume(Free)]
        pub max_failures: u64 = 3,
    }
}

words! {
    /// Metric of the best checkpoint.
    pub enum BestMetric {
        /// No best checkpoint is kept.
        None = "none",
        /// Accuracy over all test images.
        Accuracy = "accuracy",
        /// Mean of the accuracies of the classes.
        MeanClassAccuracy = "mean_class_accuracy",
        /// Accuracy over the test images of the few-shot classes.
        Few = "few",
        /// Mean F1 score of the classes.
        MacroF1 = "macro_f1",
    }
}
