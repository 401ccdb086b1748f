//! `[model]`: the frozen backbone and the pixels it takes.

use super::super::section::{section, words};
use std::path::PathBuf;

section! {
    /// The frozen backbone, and the pixels it takes.
    pub struct Model in "model" {
        /// File or folder with the backbone's weights (docs/backbones.md). Required, except with `model.kind = "demo"`.
        pub weights: Option<PathBuf>,
        /// Which family the weights belong to.
        pub kind: ModelKind,
        /// Side of the images in pixels; it has to match the positions in the weights.
        pub resolution: u32,
        /// Mean of red, green and blue, for pixels from 0 to 1.
        pub mean: [f64; 3],
        /// Standard deviation of red, green and blue, for pixels from 0 to 1.
        pub std: [f64; 3],
        /// Filter of every resize of an image.
        pub filter: Filter,
    }
}

words! {
    /// Families of backbones.
    pub enum ModelKind {
        /// CLIP with a vision transformer: an image and a text tower.
        Clip = "clip",
        /// A vision transformer alone.
        Vit = "vit",
        /// The small CLIP that the program carries, with a vocabulary of its own.
        Demo = "demo",
    }
}

impl ModelKind {
    /// The weights have a text tower.
    pub const fn has_text_tower(self) -> bool {
        !matches!(self, Self::Vit)
    }
}

words! {
    /// Filters of a resize, antialiased as in Pillow.
    pub enum Filter {
        /// Bilinear, as LIFT.
        Bilinear = "bilinear",
        /// Bicubic, with which CLIP was trained.
        Bicubic = "bicubic",
    }
}
