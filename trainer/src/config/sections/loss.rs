//! `[loss]`: what is minimised. The options of single losses stand in their files.

use super::head::TRAINED;
use crate::model::losses::{Losses, logit_adjusted};
use crate::options::{Chosen, section};

section! {
    /// What is minimised. A class without training images is taken for as rare as the rarest class that has some, in
    /// all losses that ask for class frequencies.
    pub struct LossOptions in "loss" {
        /// Which loss.
        #[needs(TRAINED)]
        pub kind: Chosen<Losses> = Chosen::of(&logit_adjusted::METHOD),
    }
}
