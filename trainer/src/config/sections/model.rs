//! `[model]`: the frozen backbone and the pixels it takes.

use crate::options::{Needs, none_of, one_of, section, words};
use std::path::PathBuf;

/// It describes the file of a backbone, which the embedded demo does not have.
const A_FILE: Needs = none_of("model.kind", &["demo"]);

section! {
    /// The frozen backbone and its input images.
    pub struct ModelOptions in "model" {
        /// File or folder of the backbone's weights (docs/backbones.md); required.
        #[needs(A_FILE)]
        #[resume(Free)]
        pub weights: Option<PathBuf> = None,
        /// Family of the backbone.
        pub kind: ModelKind = ModelKind::Clip,
        /// Which of the models inside the program. Runs of the first version have `patch4`.
        #[needs(one_of("model.kind", &["demo"]))]
        pub embedded: EmbeddedName = EmbeddedName::Patch4,
        /// Activation function of the blocks. The tensors do not determine it. The configuration file beside the
        /// weights (`config.json`, `open_clip_config.json`) takes precedence over a preset; a value that you set must
        /// agree with the file.
        #[needs(A_FILE)]
        pub activation: ActivationName = ActivationName::Auto,
        /// Attention heads of the image tower; 0 takes the number from the configuration beside the weights. Without
        /// a configuration, each head has width 64 in towers up to width 1024. A wider tower needs this option or the
        /// configuration.
        #[range(..=256)]
        #[needs(A_FILE)]
        pub heads: u32 = 0,
        /// Pooling of the image features. Weights with attention pooling (SigLIP) always use it.
        #[needs(A_FILE)]
        pub pool: PoolName = PoolName::Auto,
        /// Required width of the image tower; 0 accepts any width.
        #[needs(A_FILE)]
        pub width: u32 = 0,
        /// Required number of blocks of the image tower; 0 accepts any number.
        #[needs(A_FILE)]
        pub layers: u32 = 0,
        /// Required patch size of the image tower in pixels; 0 accepts any size.
        #[needs(A_FILE)]
        pub patch: u32 = 0,
        /// Input resolution in pixels. It must match the position embeddings in the weights. The configuration beside
        /// the weights takes precedence over a preset. If you set it, the preset's width and number of blocks are not
        /// required: the file is another model of the family.
        #[range(1..=MAX_RESOLUTION)]
        pub resolution: u32 = 224,
        /// Treatment of position embeddings for another resolution than `model.resolution`.
        #[needs(A_FILE)]
        pub positions: PositionsName = PositionsName::File,
        /// Mean of red, green and blue, for pixels from 0 to 1. The configuration beside the weights takes precedence
        /// over a preset.
        pub mean: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73],
        /// Standard deviation of red, green and blue, for pixels from 0 to 1. The configuration beside the weights
        /// takes precedence over a preset.
        #[range(|std| std.iter().all(|std| *std > 0.0), "3 numbers above 0")]
        pub std: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11],
        /// Interpolation of every image resize.
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
        /// A vision transformer without a text tower.
        Vit = "vit",
        /// The small CLIP inside the program, with its own vocabulary.
        Demo = "demo",
    }
}

words! {
    /// Models inside the program.
    pub enum EmbeddedName {
        /// The small CLIP with patches of 4 pixels.
        Patch4 = "patch4",
        /// The small CLIP with patches of 8 pixels, which computes about four times as fast.
        Patch8 = "patch8",
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
        /// The value of the configuration beside the weights; without one, the run is refused.
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
    /// Pooling of the image features.
    pub enum PoolName {
        /// The value of the configuration beside the weights; without one, the class token.
        Auto = "auto",
        /// The class token.
        Token = "token",
        /// The mean over the patches.
        Avg = "avg",
    }
}

words! {
    /// Treatment of position embeddings for another resolution.
    pub enum PositionsName {
        /// Position embeddings for another resolution are refused.
        File = "file",
        /// Position embeddings are resized once as in timm: bicubic, antialiased. DINOv2 is published for 518 pixels
        /// and used with 224.
        Resized = "resized",
    }
}

words! {
    /// Filters of a resize, antialiased as in Pillow.
    pub enum FilterName {
        /// Bilinear, as in LIFT.
        Bilinear = "bilinear",
        /// Bicubic, as in the training of CLIP.
        Bicubic = "bicubic",
    }
}
