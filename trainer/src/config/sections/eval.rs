//! `[eval]`: testing.

use super::super::section::{section, words};

section! {
    /// Testing.
    pub struct Eval in "eval" {
        /// Images that go through the model at once on each rank, each crop counting as one; it changes memory and
        /// speed only.
        pub batch_size: u64,
        /// Epochs between two tests; 0 tests only at the end.
        pub every_epochs: u64,
        /// Crops that are tested of each image. The logits of an image's crops are averaged.
        pub crops: Crops,
        /// Pixels by which the shorter side of an image is larger than the model's input when five or ten crops are
        /// taken of it; 0 is LIFT's rule, one and a half patches (rounded down): 24 for patch 16, 21 for patch 14.
        pub expand: u32,
        /// Random crops of each image, under `eval.crops = "random"`.
        pub random_crops: u32,
        /// Which images are tested.
        pub split: EvalSplit,
    }
}

words! {
    /// Crops that are tested of each image.
    pub enum Crops {
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
