//! The figures of `lift-trainer calibrate`, a part of `result.json`.

use serde::{Deserialize, Serialize};

/// What was fitted on some images, and the figures of others. Shares are in percent, and a group without images is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// How the images were divided.
    pub parts: CalibrationParts,
    /// Seed of the division.
    pub seed: u64,
    /// The class distribution that the probabilities are for: `none`, `uniform`, `train`, or a file.
    pub target: String,
    /// Divisor of the logits.
    pub temperature: f64,
    /// What is added to the divided logits of each class; null without a target.
    pub log_prior: Option<Vec<f64>>,
    /// Figures of the probabilities as the model gives them.
    pub before: CalibrationFigures,
    /// Figures of the calibrated probabilities.
    pub after: CalibrationFigures,
    /// What the sets are ordered by: `lac`, `aps` or `raps`.
    pub score: String,
    /// Share of images whose set is to contain the label.
    pub wanted: f64,
    /// Sets with one threshold.
    pub marginal: ConformalFigures,
    /// Sets with a threshold for each group of classes.
    pub by_group: ConformalFigures,
    /// Sets with a threshold for each class.
    pub by_class: ConformalFigures,
    /// The thresholds themselves; null in results of older versions.
    #[serde(default)]
    pub thresholds: Option<SetThresholds>,
}

/// The greatest score with which each class, in label order, is in the set of an image; null for a class that is in every set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetThresholds {
    /// One threshold.
    pub marginal: Vec<Option<f64>>,
    /// One for each group of classes.
    pub by_group: Vec<Option<f64>>,
    /// One for each class.
    pub by_class: Vec<Option<f64>>,
}

/// Numbers of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationParts {
    /// Images that fitted the temperature.
    pub temperature: usize,
    /// Images that fitted the thresholds of the sets.
    pub thresholds: usize,
    /// Images that the figures are of.
    pub reported: usize,
}

/// Figures of all classes and of each group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationFigures {
    /// All classes.
    pub all: Option<GroupFigures>,
    /// Classes with many training images.
    pub many: Option<GroupFigures>,
    /// Classes with a medium number.
    pub medium: Option<GroupFigures>,
    /// Classes with few.
    pub few: Option<GroupFigures>,
}

/// Figures of some images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupFigures {
    /// How many they are.
    pub images: usize,
    /// Correctly classified.
    pub accuracy: f64,
    /// Mean negative log-likelihood of the labels.
    pub nll: f64,
    /// Expected calibration error, with 15 bins.
    pub ece: f64,
    /// The part of it that chance alone would cause, if every probability were right; null in results of older versions.
    #[serde(default)]
    pub ece_by_chance: Option<f64>,
}

/// Conformal sets of all classes and of each group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConformalFigures {
    /// All classes.
    pub all: Option<GroupSets>,
    /// Classes with many training images.
    pub many: Option<GroupSets>,
    /// Classes with a medium number.
    pub medium: Option<GroupSets>,
    /// Classes with few.
    pub few: Option<GroupSets>,
    /// Classes with too few images for a threshold, which are in every set.
    pub without_threshold: usize,
}

/// Conformal sets of some images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupSets {
    /// Images whose set contains the label.
    pub coverage: f64,
    /// Mean number of classes in a set.
    pub mean_size: f64,
    /// Images whose set is empty.
    pub empty: f64,
}
