//! `[model]`: the frozen backbone and the pixels it takes.

use crate::options::{Needs, none_of, section, words};
use std::path::PathBuf;

/// It describes the file of a backbone, which the embedded demo does not have.
const A_FILE: Needs = none_of("model.kind", &["demo"]);

section! {
    /// The frozen backbone, and the pixels it takes.
    pub struct ModelOptions in "model" {
        /// File or folder with the backbone's weights (docs/backbones.md); required.
        #[needs(A_FILE)]
        #[resume(Free)]
        pub weights: Option<PathBuf> = None,
        /// Which family the weights belong to.
        pub kind: ModelKind = ModelKind::Clip,
        /// Activation of the blocks, which the tensors do not tell. The configuration file beside the weights
        /// (`config.json`, `open_clip_config.json`) comes before a preset; a value of yours must agree with it.
        #[needs(A_FILE)]
        pub activation: ActivationName = ActivationName::Auto,
        /// Attention heads of the image tower; 0 is as the configuration beside the weights. Without that, they are heads
        /// of 64 up to a width of 1024. Wider towers need one of the two.
        #[range(..=256)]
        #[needs(A_FILE)]
        pub heads: u32 = 0,
        /// What the features of an image are read from. Weights with attention pooling (SigLIP) have it in any case.
        #[needs(A_FILE)]
        pub pool: PoolName = PoolName::Auto,
        /// Width that the image tower must have; 0 accepts any.
        #[needs(A_FILE)]
        pub width: u32 = 0,
        /// Number of blocks that the image tower must have; 0 accepts any.
        #[needs(A_FILE)]
        pub layers: u32 = 0,
        /// Side of a patch in pixels that the image tower must have; 0 accepts any.
        #[needs(A_FILE)]
        pub patch: u32 = 0,
        /// Side of the images in pixels. It has to match the positions in the weights. The configuration beside the
        /// weights comes before a preset. If you set it, the preset's width and number of blocks no longer bind: the file
        /// is another model of the family.
        #[range(1..=MAX_RESOLUTION)]
        pub resolution: u32 = 224,
        /// What happens to positions in the weights that are for another resolution than `model.resolution`.
        #[needs(A_FILE)]
        pub positions: PositionsName = PositionsName::File,
        /// Mean of red, green and blue, for pixels from 0 to 1. The configuration beside the weights comes before a
        /// preset.
        pub mean: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73],
        /// Standard deviation of red, green and blue, for pixels from 0 to 1. The configuration beside the weights comes
        /// before a preset.
        #[range(|std| std.iter().all(|std| *std > 0.0), "3 numbers above 0")]
        pub std: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11],
        /// Filter of every resize of an image.
        pub filter: FilterName = FilterName::Bilinear,
    }
}

/// Side in pixels above which an image cannot be meant: memory grows with its square.
pub(super) const MAX_RESOLUTION: u32 = 4096;

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
    /// Positions of the patches.
    pub enum PositionsName {
        /// Refused; the file has to be for `model.resolution`.
        File = "file",
        /// Resized once, as timm does it: bicubic, antialiased. DINOv2 is published for 518 pixels and used with 224.
        Resized = "resized",
    }
}

words! {
    /// Filters of a resize, antialiased as in Pillow.
    pub enum FilterName {
        /// Bilinear, as LIFT.
        Bilinear = "bilinear",
        /// Bicubic, with which CLIP was trained.
        Bicubic = "bicubic",
    }
}
