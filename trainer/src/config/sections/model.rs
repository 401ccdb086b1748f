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
        /// Activation of the blocks, which the tensors do not tell. The configuration file beside the weights
        /// (`config.json`, `open_clip_config.json`) comes before a preset; a value of yours must agree with it.
        pub activation: ActivationName,
        /// Attention heads of the image tower; 0 takes them from the configuration beside the weights, else heads of
        /// 64 up to a width of 1024. Wider towers need one of the two.
        pub heads: u32,
        /// What the features of an image are read from.
        pub pool: PoolName,
        /// Width that the image tower must have; 0 accepts any.
        pub width: u32,
        /// Number of blocks that the image tower must have; 0 accepts any.
        pub layers: u32,
        /// Side of a patch in pixels that the image tower must have; 0 accepts any.
        pub patch: u32,
        /// Side of the images in pixels; it has to match the positions in the weights. The configuration beside the
        /// weights comes before a preset. If you set it, the preset's width and number of blocks no longer bind: the file
        /// is another model of the family.
        pub resolution: u32,
        /// Mean of red, green and blue, for pixels from 0 to 1. The configuration beside the weights comes before a
        /// preset.
        pub mean: [f64; 3],
        /// Standard deviation of red, green and blue, for pixels from 0 to 1. The configuration beside the weights comes
        /// before a preset.
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
    /// Activations of a block's MLP.
    pub enum ActivationName {
        /// What the configuration beside the weights states; without one, the run is refused.
        Auto = "auto",
        /// `x sigmoid(1.702 x)`: OpenAI's CLIP.
        QuickGelu = "quick_gelu",
        /// Exact GELU: timm's ViT and most models of `open_clip`.
        Gelu = "gelu",
        /// GELU with tanh in place of the error function.
        GeluTanh = "gelu_tanh",
    }
}

words! {
    /// What the features of an image are read from.
    pub enum PoolName {
        /// What the configuration beside the weights states; without one, the class token.
        Auto = "auto",
        /// The class token.
        Token = "token",
        /// The mean over the patches.
        Avg = "avg",
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
