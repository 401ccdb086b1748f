//! `[checkpoint]`: what a run saves of itself on its way.

use super::super::section::{section, words};

section! {
    /// What a run saves of itself on its way.
    pub struct Checkpoint in "checkpoint" {
        /// Steps between two checkpoints; 0 is no limit.
        pub every_steps: u64,
        /// Seconds between two checkpoints; 0 is no limit. A run that is asked to stop saves in any case.
        pub every_seconds: f64,
        /// Latest checkpoints that are kept.
        pub keep: u64,
        /// Also kept: the checkpoint after the evaluation with the greatest value of this.
        pub best: BestMetric,
        /// Checkpoints in a row that may fail to be written before the run ends.
        pub max_failures: u64,
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
