//! `[loss]`: what is minimised. The options of single losses stand in their files.

use super::head::TRAINED;
use crate::model::losses::{Losses, logit_adjusted};
use crate::options::{Chosen, section};

section! {
    /// The training loss. Every loss that uses class frequencies treats a class without training images as being as
    /// rare as the rarest class that has images.
    pub struct LossOptions in "loss" {
        /// Loss function.
        #[needs(TRAINED)]
        pub kind: Chosen<Losses> = Chosen::of(&logit_adjusted::METHOD),
    }
}
