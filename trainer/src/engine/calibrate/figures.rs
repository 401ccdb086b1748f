//! Accuracy, negative log-likelihood and calibration error of all images and of each group of classes.

use super::probabilities::Calibrated;
use crate::run::{CalibrationFigures, GroupFigures, Shot, first_maximum};
use std::f64::consts::FRAC_2_PI;

/// Bins of the expected calibration error, of equal width in the probability of the predicted class (Guo et al., 2017,
/// equation 5).
const BINS: usize = 15;

/// Sums over the images of a group.
#[derive(Clone, Default)]
struct Tally {
    images: usize,
    weight: f64,
    correct: f64,
    nll: f64,
    /// For each bin: weight, correct, probability, and the variance of correct if the probabilities are right.
    bins: [[f64; 4]; BINS],
}

impl Tally {
    fn add(&mut self, weight: f64, correct: bool, probability: f64, nll: f64) {
        let hit = if correct { weight } else { 0.0 };
        self.images += 1;
        self.weight += weight;
        self.correct += hit;
        self.nll += weight * nll;
        // The upper end belongs to a bin.
        let bin = ((probability * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        let variance = weight * weight * probability * (1.0 - probability);
        for (sum, value) in self.bins[bin].iter_mut().zip([weight, hit, weight * probability, variance]) {
            *sum += value;
        }
    }

    fn figures(&self) -> Option<GroupFigures> {
        if self.weight <= 0.0 {
            return None;
        }
        let gap: f64 =
            self.bins.iter().map(|[_, correct, probability, _]| (correct - probability).abs()).sum();
        // The mean of |x| for a normal x of mean 0 is sqrt(2 / pi) of its standard deviation.
        let chance: f64 = self.bins.iter().map(|bin| (FRAC_2_PI * bin[3].max(0.0)).sqrt()).sum();
        Some(GroupFigures {
            images: self.images,
            accuracy: 100.0 * self.correct / self.weight,
            nll: self.nll / self.weight,
            ece: 100.0 * gap / self.weight,
            ece_by_chance: Some(100.0 * chance / self.weight),
        })
    }
}

/// The figures of `images` with these weights; `groups` are those of the classes.
pub(super) fn of(
    probabilities: Calibrated<'_>,
    images: &[usize],
    weights: &[f64],
    groups: &[Shot],
) -> CalibrationFigures {
    let mut all = Tally::default();
    let mut of_group = [Tally::default(), Tally::default(), Tally::default()];
    let mut row = Vec::new();
    for (&image, &weight) in images.iter().zip(weights) {
        let nll = probabilities.nll(image, &mut row);
        probabilities.of(image, &mut row);
        let Some(class) = first_maximum(&row) else { continue };
        let label = probabilities.table.label(image);
        for tally in [&mut all, &mut of_group[place(groups[label])]] {
            tally.add(weight, class == label, row[class], nll);
        }
    }
    let [many, medium, few] = of_group.map(|tally| tally.figures());
    CalibrationFigures { all: all.figures(), many, medium, few }
}

/// The place of a group among many, medium and few.
pub(super) const fn place(group: Shot) -> usize {
    match group {
        Shot::Many => 0,
        Shot::Medium => 1,
        Shot::Few => 2,
    }
}
