//! `[eval]`: testing.

use super::MAX_IMAGES;
use super::head::TRAINED;
use super::model::MAX_RESOLUTION;
use crate::options::{Needs, Values, holds, one_of, section, words};
use protocol::evaluation::ShotLimits;

/// Random crops of an image above which a number cannot be meant.
const MAX_CROPS: u32 = 1000;

/// A report with more pictures than this cannot be meant.
const MAX_THUMBNAILS: u32 = 1000;

/// A test would otherwise come after the end.
const WITHIN_THE_RUN: Needs = holds("train.epochs", "up to `train.epochs`", |values: &Values| {
    let [epochs, every] = ["train.epochs", "eval.every_epochs"].map(|key| values.of::<u64>(key));
    epochs == Some(0) || every <= epochs
});

section! {
    /// Evaluation.
    pub struct EvalOptions in "eval" {
        /// Images in one forward pass on each rank, where each crop counts as one image; affects memory and speed
        /// only.
        #[range(1..=MAX_IMAGES)]
        pub batch_size: u64 = 128,
        /// Epochs between two evaluations; 0 evaluates only at the end.
        #[needs(TRAINED, WITHIN_THE_RUN)]
        pub every_epochs: u64 = 0,
        /// Crops to evaluate per image. The logits of the crops of an image are averaged.
        pub crops: CropsName = CropsName::Centre,
        /// Pixels by which the image is enlarged for five or ten crops; 0 uses LIFT's rule. The shorter side is
        /// resized to the input size of the model plus this number. The rule is one and a half patches, rounded down:
        /// 24 for patch 16, 21 for patch 14.
        #[range(..=MAX_RESOLUTION)]
        #[needs(one_of("eval.crops", &["five", "ten"]))]
        pub expand: u32 = 0,
        /// Random crops per image.
        #[range(1..=MAX_CROPS)]
        #[needs(one_of("eval.crops", &["random"]))]
        pub random_crops: u32 = 1,
        /// Training images of the medium classes: from the first to the second number. Classes with more are in the group of
        /// many, those with fewer in that of few.
        #[range(|groups| groups[0] <= groups[1], "2 numbers, the second at least the first")]
        pub groups: [u64; 2] = [20, 100],
        /// Split to evaluate.
        pub split: EvalSplit = EvalSplit::Test,
        /// Pictures of the most confident mistakes that the last evaluation writes into the run folder, for `lift
        /// report --thumbnails`.
        #[range(..=MAX_THUMBNAILS)]
        #[resume(Free)]
        pub thumbnails: u32 = 0,
    }
}

impl EvalOptions {
    /// The limits of the groups of classes.
    pub fn limits(&self) -> ShotLimits {
        let [from, to] = self.groups;
        ShotLimits { from, to }
    }
}

words! {
    /// Crops to evaluate per image.
    pub enum CropsName {
        /// The centre, after the shorter side is resized to 8/7 of the model's input size.
        Centre = "centre",
        /// The four corners and the centre of the image enlarged by `eval.expand`: LIFT's `fivecrop`.
        Five = "five",
        /// The five crops of the image and of the mirrored image: LIFT's `tencrop`.
        Ten = "ten",
        /// `eval.random_crops` training views: random resized crops, mirrored with probability 0.5 (LIFT's
        /// `randaug`). They depend on `train.seed`, the image number and the crop number only, so they are the same
        /// at any world size.
        Random = "random",
    }
}

words! {
    /// Split to evaluate.
    pub enum EvalSplit {
        /// Test images.
        Test = "test",
        /// Training images in test views: LIFT's `test_train`.
        Train = "train",
    }
}
