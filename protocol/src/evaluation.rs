//! `evaluation.json`: what the last evaluation of a run counted beyond the figures of `result.json`.
//!
//! All sums are integers over the images of the list, so they are equal on any number of ranks.

use serde::{Deserialize, Serialize};

/// Version of the file's format.
pub const FORMAT: u32 = 1;
/// Number of bins of a reliability diagram, all of the same width.
pub const BINS: usize = 15;
/// Confidences are integers in millionths, so that their sums do not depend on their order.
pub const CERTAIN: u64 = 1_000_000;

/// Training images of the classes in the medium group; classes with more are in the group of many, with fewer in that of few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShotLimits {
    /// Fewest training images.
    pub from: u64,
    /// Most training images.
    pub to: u64,
}

impl Default for ShotLimits {
    /// Those of long-tail papers.
    fn default() -> Self {
        Self { from: 20, to: 100 }
    }
}

/// Groups of classes by number of training images, as long-tail papers report them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shot {
    /// More training images than the limits.
    Many,
    /// Within the limits.
    Medium,
    /// Fewer.
    Few,
}

impl Shot {
    /// All groups, the largest classes first.
    pub const ALL: [Self; 3] = [Self::Many, Self::Medium, Self::Few];

    /// Its name in files and tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Many => "many",
            Self::Medium => "medium",
            Self::Few => "few",
        }
    }
}

impl ShotLimits {
    /// The group of a class with this number of training images.
    pub const fn group(self, train_count: u64) -> Shot {
        if train_count > self.to {
            Shot::Many
        } else if train_count < self.from {
            Shot::Few
        } else {
            Shot::Medium
        }
    }

    /// The training images of a group in words.
    pub fn range(self, group: Shot) -> String {
        let Self { from, to } = self;
        match group {
            Shot::Many => format!("more than {to}"),
            Shot::Medium => format!("{from} to {to}"),
            Shot::Few => format!("fewer than {from}"),
        }
    }
}

/// The content of `evaluation.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Number of classes of the data set.
    pub classes: usize,
    /// Evaluated images, without those left out.
    pub images: u64,
    /// Wrong predictions: label, predicted class and number of images, in ascending order.
    pub confusion: Vec<(u32, u32, u64)>,
    /// Confidence and accuracy for each group of classes.
    pub reliability: Vec<GroupReliability>,
    /// The wrong predictions with the greatest confidence, in descending order.
    pub mistakes: Vec<Mistake>,
}

/// The reliability diagram of a group of classes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupReliability {
    /// `many`, `medium` or `few`, by the training images of the label.
    pub group: String,
    /// [`BINS`] bins of equal width over the confidences from 0 to 1.
    pub bins: Vec<ReliabilityBin>,
}

/// Images whose confidence lies in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Number of images.
    pub images: u64,
    /// Correctly classified images.
    pub correct: u64,
    /// Sum of the confidences in millionths.
    pub confidence: u64,
}

/// A wrong prediction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistake {
    /// Number of the image in its list.
    pub image: u64,
    /// Its name in messages: a path, or the position in a file.
    pub name: String,
    /// Its class.
    pub label: u32,
    /// The predicted class.
    pub predicted: u32,
    /// Softmax probability of the predicted class in millionths.
    pub confidence: u64,
    /// File of the picture inside the run folder, if `eval.thumbnails` requested it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<String>,
}

/// The bin of a confidence in millionths; a bin contains its upper bound.
pub fn bin(confidence: u64) -> usize {
    let upper = confidence.min(CERTAIN) * BINS as u64;
    (upper.div_ceil(CERTAIN) as usize).saturating_sub(1)
}

impl ReliabilityBin {
    /// Adds an image.
    pub fn add(&mut self, confidence: u64, is_correct: bool) {
        self.images += 1;
        self.correct += u64::from(is_correct);
        self.confidence += confidence;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_contains_its_upper_bound() {
        assert_eq!([0, 1, 66_666, 66_667, 500_000, 999_999, CERTAIN].map(bin), [0, 0, 0, 1, 7, 14, 14]);
        assert_eq!(bin(2 * CERTAIN), 14);
    }
}
