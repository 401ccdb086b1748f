//! `[loss]`: what is minimised. The options of single losses stand in their files.

use super::head::TRAINED;
use crate::model::losses::{Losses, logit_adjusted};
use crate::options::{Chosen, section};

section! {
    /// What is minimised.
    pub struct Loss in "loss" {
        /// Which loss.
        #[needs(TRAINED)]
        pub kind: Chosen<Losses> = Chosen::of(&logit_adjusted::METHOD),
    }
}
