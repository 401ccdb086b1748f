//! The image tower: CLIP's ViT and timm's ViT.

use super::adaptformer::AdaptFormer;
use super::backbone_config::Pool;
use super::block::{Block, Rows};
use super::layers::LayerNorm;
use super::precision::Precision;
use tch::{Kind, Tensor};

/// Sizes of an image tower, as read off its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisionShape {
    /// Width of the hidden state, and of the features that the head sees.
    pub width: i64,
    /// Number of blocks.
    pub layers: usize,
    /// Side of a patch in pixels.
    pub patch: i64,
    /// Side of the image in pixels.
    pub resolution: i64,
    /// Width of the space that image and text share; 0 without a text tower.
    pub joint: i64,
}

/// Patches, class token and positions.
#[derive(Debug)]
pub struct Stem {
    /// `[width, 3, patch, patch]`.
    pub patches: Tensor,
    /// `[width]`; timm's ViT has it, CLIP's has not.
    pub bias: Option<Tensor>,
    /// `[width]`.
    pub class_token: Tensor,
    /// `[1 + patches, width]`.
    pub positions: Tensor,
    /// CLIP normalises before the first block, timm's ViT does not.
    pub norm: Option<LayerNorm>,
    /// Kinds of the run.
    pub precision: Precision,
}

impl Stem {
    /// `[images, 3, side, side] -> [images, 1 + patches, width]`.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        let side = self.patches.size()[2];
        let none: Option<&Tensor> = None;
        let bias = self.bias.as_ref().or(none);
        let x = images.to_kind(self.precision.compute);
        let x = x.conv2d(&self.patches, bias, [side, side], [0, 0], [1, 1], 1);
        let x = x.flatten(2, 3).transpose(1, 2).to_kind(self.precision.parameters);
        let (images, width) = (x.size()[0], x.size()[2]);
        let class = self.class_token.view([1, 1, width]).expand([images, 1, width], false);
        let x = Tensor::cat(&[class, x], 1) + &self.positions;
        match &self.norm {
            Some(norm) => norm.forward(&x),
            None => x,
        }
    }
}

/// Mean and standard deviation that pixels are normalised with.
#[derive(Debug)]
pub struct PixelNorm {
    mean: Tensor,
    std: Tensor,
}

impl PixelNorm {
    /// From three values each, red, green, blue, in the scale 0..1.
    pub fn new(mean: [f64; 3], std: [f64; 3], kind: Kind, device: tch::Device) -> Self {
        let tensor =
            |values: [f64; 3]| Tensor::from_slice(&values).to_kind(kind).to_device(device).view([1, 3, 1, 1]);
        Self { mean: tensor(mean), std: tensor(std) }
    }

    /// `(bytes / 255 - mean) / std`.
    pub fn forward(&self, bytes: &Tensor) -> Tensor {
        (bytes.to_kind(self.mean.kind()) / 255.0 - &self.mean) / &self.std
    }
}

/// The tower: pixels to the features that the head sees.
#[derive(Debug)]
pub struct VisionTower {
    /// Its sizes.
    pub shape: VisionShape,
    /// Patches, class token and positions.
    pub stem: Stem,
    /// The transformer.
    pub blocks: Vec<Block>,
    /// After the last block.
    pub norm: LayerNorm,
    /// What the features are read from.
    pub pool: Pool,
    /// Into the space shared with text, `[width, joint]`.
    pub projection: Option<Tensor>,
}

impl VisionTower {
    /// Normalised images `[n, 3, side, side]` to features `[n, width]`, before any projection.
    ///
    /// `tuner[i]` is the module beside block `i`; an empty slice is the frozen tower.
    pub fn features(&self, images: &Tensor, tuner: &[Option<AdaptFormer>]) -> Tensor {
        let start = self.stem.forward(images);
        self.finish(&(0..self.blocks.len()).fold(start, |x, i| self.block(i, &x, tuner)))
    }

    /// Hidden state before block `index` to the one after it; the last block gives the class token alone where no
    /// other token is read.
    pub fn block(&self, index: usize, x: &Tensor, tuner: &[Option<AdaptFormer>]) -> Tensor {
        let last = index + 1 == self.blocks.len();
        let rows = if last && self.pool == Pool::Token { Rows::First } else { Rows::All };
        self.blocks[index].forward(x, rows, tuner.get(index).and_then(Option::as_ref))
    }

    /// Hidden state after the last block to features `[n, width]`.
    pub fn finish(&self, x: &Tensor) -> Tensor {
        match self.pool {
            Pool::Token => self.norm.forward(&x.select(1, 0)),
            Pool::Average => {
                let patches = self.norm.forward(&x.narrow(1, 1, x.size()[1] - 1));
                patches.mean_dim([1i64].as_slice(), false, None::<Kind>)
            }
        }
    }

    /// Its tensors before and after the blocks, by name.
    pub fn tensors_outside_blocks(&self) -> Vec<(&'static str, &Tensor)> {
        let stem = &self.stem;
        let mut tensors = vec![
            ("patches", &stem.patches),
            ("class_token", &stem.class_token),
            ("positions", &stem.positions),
            ("norm.weight", &self.norm.weight),
            ("norm.bias", &self.norm.bias),
        ];
        tensors.extend(stem.bias.iter().map(|bias| ("patches.bias", bias)));
        if let Some(norm) = &stem.norm {
            tensors.extend([("norm_pre.weight", &norm.weight), ("norm_pre.bias", &norm.bias)]);
        }
        tensors.extend(self.projection.iter().map(|projection| ("projection", projection)));
        tensors
    }

    /// Features `[n, width]` in the space shared with text, `[n, joint]`; `None` without one.
    pub fn project(&self, features: &Tensor) -> Option<Tensor> {
        self.projection.as_ref().map(|projection| features.matmul(projection))
    }
}
