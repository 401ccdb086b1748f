//! Probabilities that mean what they say: temperature, correction of the class distribution, and conformal sets.
//!
//! The images are divided at random into three parts: one fits the temperature, one the thresholds of the sets, and the
//! figures are those of the third, which nothing was fitted on. All of it is arithmetic on a [`LogitsTable`], in double
//! precision.

mod conformal;
mod distribution;
mod figures;
mod logits_file;
mod probabilities;
mod sets;
mod table;
mod temperature;

pub use conformal::{Partition, Score, SetRule};
pub use distribution::{Distribution, DistributionError};
pub use logits_file::{LogitsFile, LogitsFileError, Recorded};
pub use sets::{NoThresholds, SetMaker};
pub use table::LogitsTable;

use crate::run::{Calibration, CalibrationFigures, CalibrationParts, Shot, ShotLimits};
use probabilities::Calibrated;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Share of the fitted images that fit the temperature, which is one number; the others fit thresholds.
const TEMPERATURE_SHARE: f64 = 0.2;

/// What to calibrate, and how.
#[derive(Debug, Clone)]
pub struct CalibrationPlan {
    /// Share of the images that something is fitted on.
    pub fit_share: f64,
    /// Seed of the division.
    pub seed: u64,
    /// Share of images whose set is to contain the label.
    pub coverage: f64,
    /// What the sets are ordered by.
    pub score: Score,
    /// Class distribution that the probabilities are for, with its name, and the one that the logits are for; none leaves
    /// them as they are.
    pub shift: Option<(String, Distribution, Distribution)>,
    /// Training images of the medium classes.
    pub limits: ShotLimits,
    /// Divisor of the logits; none fits it.
    pub temperature: Option<f64>,
}

/// Images that cannot be calibrated.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// Too few images.
    #[error(
        "{found} images are too few to fit on {fit} and report on the rest; expected at least one in each of the three parts\nhint: evaluate more images, or set --fit-share"
    )]
    TooFew {
        /// Images.
        found: usize,
        /// Those that something is fitted on.
        fit: usize,
    },
    /// Class sizes of other data.
    #[error(
        "the logits are of {found} classes and the run has {expected}\nhint: give logits that this run's model made"
    )]
    Classes {
        /// Classes of the run.
        expected: usize,
        /// Classes of the logits.
        found: usize,
    },
    /// A label that is no class.
    #[error("image {image} has the label {label}; expected 0 to {}", classes - 1)]
    Label {
        /// Its index in the table.
        image: usize,
        /// The label.
        label: i64,
        /// Number of classes.
        classes: usize,
    },
    /// A logit that is not finite.
    #[error("image {image} has a logit that is not finite, so its probabilities are not defined")]
    NotFinite {
        /// Its index in the table.
        image: usize,
    },
}

impl CalibrationPlan {
    /// Fits on one part of the images and reports on another.
    pub fn run(&self, table: &LogitsTable, train_counts: &[u64]) -> Result<Calibration, CalibrationError> {
        table.check(train_counts.len())?;
        let parts = self.divide(table.len())?;
        let groups: Vec<Shot> = train_counts.iter().map(|&count| self.limits.group(count)).collect();
        let weights_of = |images: &[usize]| self.weights(table, images);
        let offset = self.shift.as_ref().map(|(_, target, source)| target.log_ratio(source));
        let raw = Calibrated { table, scale: 1.0, offset: None };
        let shifted = Calibrated { table, scale: 1.0, offset: offset.as_deref() };
        let fitted = || temperature::fit(&shifted, &parts[0], &weights_of(&parts[0]));
        let scale = self.temperature.map_or_else(fitted, f64::recip);
        let calibrated = Calibrated { scale, ..shifted };
        let (thresholds, reported) = (&parts[1], &parts[2]);
        let weights = weights_of(reported);
        let figures = |probabilities| figures::of(probabilities, reported, &weights, &groups);
        let (before, after): (CalibrationFigures, CalibrationFigures) = (figures(raw), figures(calibrated));
        let scores = conformal::scores(calibrated, self.score, thresholds);
        let of_class = self.class_weights(table);
        let rules = Partition::ALL
            .map(|partition| SetRule::fit(&scores, partition, &groups, (self.coverage, &of_class)));
        let [marginal, by_group, by_class] =
            conformal::report(calibrated, self.score, &rules, (reported, &weights), &groups);
        Ok(Calibration {
            parts: CalibrationParts {
                temperature: parts[0].len(),
                thresholds: parts[1].len(),
                reported: parts[2].len(),
            },
            seed: self.seed,
            target: self.shift.as_ref().map_or_else(|| "none".to_owned(), |(name, ..)| name.clone()),
            temperature: 1.0 / scale,
            log_prior: offset,
            before,
            after,
            score: self.score.to_string(),
            wanted: 100.0 * self.coverage,
            marginal,
            by_group,
            by_class,
            thresholds: Some(sets::recorded(&rules)),
        })
    }

    /// Images that fit the temperature (none if it is given), that fit the thresholds, and that are reported; each in the order of the table.
    pub fn divide(&self, images: usize) -> Result<[Vec<usize>; 3], CalibrationError> {
        let fit = (images as f64 * self.fit_share).round() as usize;
        let first = match self.temperature {
            None => ((fit as f64 * TEMPERATURE_SHARE).round() as usize).max(1),
            Some(_) => 0,
        };
        if fit <= first || fit >= images {
            return Err(CalibrationError::TooFew { found: images, fit });
        }
        let mut order: Vec<usize> = (0..images).collect();
        let key = Sha256::digest([b"calibration parts".as_slice(), &self.seed.to_le_bytes()].concat());
        order.shuffle(&mut ChaCha8Rng::from_seed(key.into()));
        let mut parts = [order[..first].to_vec(), order[first..fit].to_vec(), order[fit..].to_vec()];
        for part in &mut parts {
            part.sort_unstable();
        }
        Ok(parts)
    }

    /// How often an image of each class occurs under the target, compared with the table: 1 without a target, 0 for a
    /// class without images.
    fn class_weights(&self, table: &LogitsTable) -> Vec<f64> {
        let Some((_, target, _)) = &self.shift else { return vec![1.0; table.classes] };
        let mut counts = vec![0.0; table.classes];
        for &label in &table.labels {
            counts[label as usize] += 1.0;
        }
        let images = table.len() as f64;
        let ratio = |(&share, &count): (&f64, &f64)| if count > 0.0 { share * images / count } else { 0.0 };
        target.shares().iter().zip(&counts).map(ratio).collect()
    }

    fn weights(&self, table: &LogitsTable, images: &[usize]) -> Vec<f64> {
        let of_class = self.class_weights(table);
        images.iter().map(|&image| of_class[table.labels[image] as usize]).collect()
    }
}

#[cfg(test)]
mod tests;
