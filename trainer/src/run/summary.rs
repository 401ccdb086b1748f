//! The figures of an evaluation, in percent, from the integer counts of [`ClassCounts`].
//!
//! They are those of LIFT: accuracy over images; the mean accuracy of the classes with many (more than 100), medium (20
//! to 100) and few (fewer than 20) training images; macro F1 over the classes that occur as labels; mean, worst,
//! harmonic and geometric mean of the class accuracies. No figure includes a class without a test image. A figure over
//! nothing is none (null in JSON), not zero.

use super::{ClassCounts, CountsError};
use serde::{Deserialize, Serialize};

pub use protocol::evaluation::{Shot, ShotLimits};

/// Lower bound in percent of the class accuracies in the harmonic mean, which a zero would make zero.
pub const HARMONIC_FLOOR: f64 = 0.001;

/// The figures of an evaluation, in percent; none where undefined.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Correctly classified images as a share of all images.
    pub accuracy: Option<f64>,
    /// Mean accuracy of the classes with more training images than the limits, usually 20 to 100.
    pub many: Option<f64>,
    /// Mean accuracy of the classes within them.
    pub medium: Option<f64>,
    /// Mean accuracy of the classes with fewer.
    pub few: Option<f64>,
    /// Mean F1 of the classes that occur as labels.
    pub macro_f1: Option<f64>,
    /// Mean of the class accuracies.
    pub mean_class_accuracy: Option<f64>,
    /// The lowest class accuracy.
    pub worst_class: Option<f64>,
    /// Harmonic mean of the class accuracies, each raised to at least 0.001 percent.
    pub harmonic_mean: Option<f64>,
    /// Geometric mean of the class accuracies; 0 as soon as one of them is.
    pub geometric_mean: Option<f64>,
    /// Correctly classified images.
    pub correct: u64,
    /// Images.
    pub total: u64,
}

impl Summary {
    /// The figures that follow from `counts` when class `c` has `train_counts[c]` training images.
    pub fn new(counts: &ClassCounts, train_counts: &[u64], limits: ShotLimits) -> Result<Self, CountsError> {
        if counts.classes() != train_counts.len() {
            return Err(CountsError::Classes { expected: counts.classes(), found: train_counts.len() });
        }
        let classes = tested_classes(counts, train_counts, limits);
        let group =
            |shot| mean(classes.iter().filter(|class| class.shot == shot).map(|class| class.accuracy));
        let accuracies = || classes.iter().map(|class| class.accuracy);
        let (correct, total) = (sum(counts.correct()), sum(counts.total()));
        Ok(Self {
            accuracy: percent(correct, total),
            many: group(Shot::Many),
            medium: group(Shot::Medium),
            few: group(Shot::Few),
            macro_f1: mean(classes.iter().map(|class| class.f1)),
            mean_class_accuracy: mean(accuracies()),
            worst_class: accuracies().min_by(f64::total_cmp),
            // Computed from fractions, so that 100 percent in every class gives exactly 100 percent.
            harmonic_mean: mean(accuracies().map(|accuracy| 100.0 / accuracy.max(HARMONIC_FLOOR)))
                .map(|m| 100.0 / m),
            geometric_mean: mean(accuracies().map(|accuracy| (accuracy / 100.0).ln()))
                .map(|m| 100.0 * m.exp()),
            correct,
            total,
        })
    }
}

/// `part` of `whole` in percent; none if `whole` is 0.
pub fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part as f64 / whole as f64)
}

/// A class with at least one test image.
struct TestedClass {
    shot: Shot,
    accuracy: f64,
    f1: f64,
}

fn tested_classes(counts: &ClassCounts, train_counts: &[u64], limits: ShotLimits) -> Vec<TestedClass> {
    let each = counts.correct().iter().zip(counts.total()).zip(counts.predicted()).zip(train_counts);
    each.filter_map(|(((correct, total), predicted), train)| {
        let (correct, total, predicted) = (count(*correct), count(*total), count(*predicted));
        // F1 = 2 TP / (2 TP + FP + FN), where TP + FN are the images of the class and TP + FP its predictions.
        let accuracy = percent(correct, total)?;
        let f1 = percent(2 * correct, total + predicted)?;
        Some(TestedClass { shot: limits.group(*train), accuracy, f1 })
    })
    .collect()
}

/// Counts are never negative; after an overflow in a reduction, no figure is better than a wrong one.
fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn sum(counts: &[i64]) -> u64 {
    counts.iter().map(|value| count(*value)).sum()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, number) = values.fold((0.0, 0_u64), |(sum, number), value| (sum + value, number + 1));
    (number > 0).then(|| sum / number as f64)
}

#[cfg(test)]
mod tests;
