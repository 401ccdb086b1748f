//! `result.json`.

use super::calibration::CalibrationRecord;
use protocol::evaluation::{Shot, ShotLimits};
use serde::Deserialize;

/// The figures of a finished run. Figures are in percent, and none where undefined.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ResultRecord {
    /// Name of the data preset.
    pub data: String,
    /// Name of the model preset.
    pub model: String,
    /// Name of the method preset.
    pub method: String,
    /// The seed.
    pub seed: u64,
    /// Number of ranks.
    pub world_size: usize,
    /// `cpu`, or the name of the GPU.
    #[serde(default)]
    pub device: String,
    /// Arithmetic, e.g. `fp32`.
    #[serde(default)]
    pub precision: String,
    /// Fingerprint of the frozen weights.
    #[serde(default)]
    pub weights_fingerprint: String,
    /// The evaluated images.
    #[serde(default)]
    pub evaluation: ViewsRecord,
    /// Accuracy over images.
    pub accuracy: Option<f64>,
    /// Mean accuracy of the many-shot classes.
    pub many: Option<f64>,
    /// Mean accuracy of the medium-shot classes.
    pub medium: Option<f64>,
    /// Mean accuracy of the few-shot classes.
    pub few: Option<f64>,
    /// Mean F1 of the classes.
    #[serde(default)]
    pub macro_f1: Option<f64>,
    /// Mean of the class accuracies.
    pub mean_class_accuracy: Option<f64>,
    /// The lowest class accuracy.
    #[serde(default)]
    pub worst_class: Option<f64>,
    /// Harmonic mean of the class accuracies.
    #[serde(default)]
    pub harmonic_mean: Option<f64>,
    /// Correctly classified images.
    pub correct: u64,
    /// Evaluated images.
    pub total: u64,
    /// Number of trained scalars.
    pub trainable_parameters: u64,
    /// Training images per second.
    pub images_per_second: Option<f64>,
    /// Duration in seconds.
    pub seconds: f64,
    /// Images left out.
    #[serde(default)]
    pub bad_images: u64,
    /// Training images of the medium classes.
    #[serde(default)]
    pub groups: ShotLimits,
    /// What `lift-trainer calibrate` found, if it was called.
    #[serde(default)]
    pub calibration: Option<CalibrationRecord>,
    /// The classes in label order.
    pub per_class: Vec<ClassRecord>,
}

/// The images and views of an evaluation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ViewsRecord {
    /// `test` or `train`.
    #[serde(default)]
    pub split: String,
    /// `centre`, `five`, `ten` or `random`.
    #[serde(default)]
    pub crops: String,
}

/// A class of the result.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ClassRecord {
    /// Its name.
    pub name: String,
    /// Its training images.
    pub train_count: u64,
    /// Its evaluated images.
    pub test_count: u64,
    /// Those correctly classified.
    pub correct: u64,
    /// Its accuracy; none without an evaluated image.
    pub accuracy: Option<f64>,
}

impl ResultRecord {
    /// Mean accuracy of a group.
    pub const fn of_group(&self, group: Shot) -> Option<f64> {
        match group {
            Shot::Many => self.many,
            Shot::Medium => self.medium,
            Shot::Few => self.few,
        }
    }
}
