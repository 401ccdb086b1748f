//! What `lift-trainer calibrate` added to `result.json`.

use serde::Deserialize;

/// A calibration, with figures of images that nothing was fitted on.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CalibrationRecord {
    /// Divisor of the logits.
    pub temperature: f64,
    /// The class distribution that the probabilities are for; `none` for that of the loss.
    pub target: String,
    /// What the sets are ordered by.
    pub score: String,
    /// Share of images in percent whose set is to contain the label.
    pub wanted: f64,
    /// Probabilities as the model gives them.
    pub before: OfGroups<FitRecord>,
    /// Calibrated probabilities.
    pub after: OfGroups<FitRecord>,
    /// Sets with one threshold.
    pub marginal: OfGroups<SetsRecord>,
    /// Sets with a threshold for each group of classes.
    pub by_group: OfGroups<SetsRecord>,
}

/// Figures of all classes and of each group; none for a group without images.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct OfGroups<T> {
    /// All classes.
    pub all: Option<T>,
    /// Classes with many training images.
    pub many: Option<T>,
    /// Classes with a medium number.
    pub medium: Option<T>,
    /// Classes with few.
    pub few: Option<T>,
}

/// How well probabilities agree with labels.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FitRecord {
    /// Number of images.
    pub images: u64,
    /// Mean negative log-likelihood of the labels.
    pub nll: f64,
    /// Expected calibration error in percent.
    pub ece: f64,
    /// The part of it that chance alone would cause; none in older results.
    #[serde(default)]
    pub ece_by_chance: Option<f64>,
}

/// Conformal sets of some images.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SetsRecord {
    /// Images in percent whose set contains the label.
    pub coverage: f64,
    /// Mean number of classes.
    pub mean_size: f64,
}

impl<T> OfGroups<T> {
    /// The groups with their names, all classes first.
    pub fn named(&self) -> [(&'static str, Option<&T>); 4] {
        let Self { all, many, medium, few } = self;
        [("all", all), ("many", many), ("medium", medium), ("few", few)].map(|(name, of)| (name, of.as_ref()))
    }
}
