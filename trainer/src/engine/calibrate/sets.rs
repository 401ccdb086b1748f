//! The conformal sets of new images, by the thresholds that a calibration recorded.

use super::conformal::{Partition, Score, SetRule};
use crate::run::{Calibration, SetThresholds};
use clap::ValueEnum;

/// The thresholds of the rules, in the order of [`Partition::ALL`].
pub(super) fn recorded(rules: &[SetRule; 3]) -> SetThresholds {
    let finite = |rule: &SetRule| {
        rule.thresholds().iter().map(|threshold| threshold.is_finite().then_some(*threshold)).collect()
    };
    let [marginal, by_group, by_class] = rules.each_ref().map(finite);
    SetThresholds { marginal, by_group, by_class }
}

/// A calibration of another version: without thresholds, or with those of other classes or of an unknown score.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the recorded calibration has no thresholds for sets of its {classes} classes")]
pub struct NoThresholds {
    classes: usize,
}

/// Makes the sets of images.
#[derive(Debug, Clone, PartialEq)]
pub struct SetMaker {
    score: Score,
    thresholds: Vec<f64>,
}

impl SetMaker {
    /// The sets that `found` recorded for this partition of `classes` classes.
    pub fn of(found: &Calibration, partition: Partition, classes: usize) -> Result<Self, NoThresholds> {
        let thresholds = found.thresholds.as_ref().map(|all| match partition {
            Partition::Marginal => &all.marginal,
            Partition::ByGroup => &all.by_group,
            Partition::ByClass => &all.by_class,
        });
        let thresholds = thresholds.filter(|thresholds| thresholds.len() == classes);
        let score = Score::from_str(&found.score, false).ok();
        let (Some(thresholds), Some(score)) = (thresholds, score) else {
            return Err(NoThresholds { classes });
        };
        let infinite = |threshold: &Option<f64>| threshold.unwrap_or(f64::INFINITY);
        Ok(Self { score, thresholds: thresholds.iter().map(infinite).collect() })
    }

    /// The classes in the set of an image with these probabilities, in label order.
    pub fn set(&self, probabilities: &[f64]) -> Vec<usize> {
        let mut scores = Vec::new();
        self.score.of_row(probabilities, &mut scores);
        (0..scores.len()).filter(|&class| scores[class] <= self.thresholds[class]).collect()
    }
}
