//! `result.json`.

use protocol::evaluation::{FEW_BELOW, MANY_ABOVE};
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

/// Groups of classes by training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// More than 100.
    Many,
    /// 20 to 100.
    Medium,
    /// Fewer than 20.
    Few,
}

impl Group {
    /// All of them, the largest classes first.
    pub const ALL: [Self; 3] = [Self::Many, Self::Medium, Self::Few];

    /// The group of a class with so many training images.
    pub const fn of(train_count: u64) -> Self {
        if train_count > MANY_ABOVE {
            Self::Many
        } else if train_count < FEW_BELOW {
            Self::Few
        } else {
            Self::Medium
        }
    }

    /// Its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Many => "many",
            Self::Medium => "medium",
            Self::Few => "few",
        }
    }

    /// Its training images in words.
    pub const fn range(self) -> &'static str {
        match self {
            Self::Many => "more than 100",
            Self::Medium => "20 to 100",
            Self::Few => "fewer than 20",
        }
    }
}

impl ResultRecord {
    /// Mean accuracy of a group.
    pub const fn of_group(&self, group: Group) -> Option<f64> {
        match group {
            Group::Many => self.many,
            Group::Medium => self.medium,
            Group::Few => self.few,
        }
    }
}
