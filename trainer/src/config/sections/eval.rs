//! `[eval]`: testing.

use super::MAX_IMAGES;
use super::head::TRAINED;
use super::model::MAX_RESOLUTION;
use crate::options::{Needs, Values, holds, one_of, section, words};

/// Random crops of an image above which a number cannot be meant.
const MAX_CROPS: u32 = 1000;

/// A test would otherwise come after the end.
const WITHIN_THE_RUN: Needs = holds("train.epochs", "up to `train.epochs`", |values: &Values| {
    let [epochs, every] = ["train.epochs", "eval.every_epochs"].map(|key| values.of::<u64>(key));
    epochs == Some(0) || every <= epochs
});

section! {
    /// Testing.
    pub struct EvalOptions in "eval" {
        /// Images that go through the model at once on each rank, each crop counting as one; it changes memory and
        /// speed only.
        #[range(1..=MAX_IMAGES)]
        pub batch_size: u64 = 128,
        /// Epochs between two tests; 0 tests only at the end.
        #[needs(TRAINED, WITHIN_THE_RUN)]
        pub every_epochs: u64 = 0,
        /// Crops that are tested of each image. The logits of an image's crops are averaged.
        pub crops: CropsName = CropsName::Centre,
        /// Pixels by which five or ten crops are taken of a larger image; 0 is LIFT's rule. The shorter side becomes the model's
        /// input and this much. The rule is one and a half patches (rounded down): 24 for patch 16, 21 for patch 14.
        #[range(..=MAX_RESOLUTION)]
        #[needs(one_of("eval.crops", &["five", "ten"]))]
        pub expand: u32 = 0,
        /// Random crops of each image.
        #[range(1..=MAX_CROPS)]
        #[needs(one_of("eval.crops", &["random"]))]
        pub random_crops: u32 = 1,
        /// Which images are tested.
        pub split: EvalSplit = EvalSplit::Test,
    }
}

words! {
    /// Crops that are tested of each image.
    pub enum CropsName {
        /// The centre, after the shorter side has become 8/7 of the model's input.
        Centre = "centre",
        /// The four corners and the centre of the image enlarged by `eval.expand`: LIFT's `fivecrop`.
        Five = "five",
        /// The five, and the five of the mirrored image: LIFT's `tencrop`.
        Ten = "ten",
        /// `eval.random_crops` views of training: random resized crops, mirrored half of the time. They are drawn by
        /// `train.seed`, the image's number and the crop's, so they are the same on any number of ranks. LIFT's
        /// `randaug`.
        Random = "random",
    }
}

words! {
    /// Which images are tested.
    pub enum EvalSplit {
        /// Those to test on.
        Test = "test",
        /// Those to train on, in the views of the test: LIFT's `test_train`.
        Train = "train",
    }
}
