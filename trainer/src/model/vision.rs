//! The image tower: CLIP's ViT and timm's ViT.

use super::backbone_config::Pool;
use super::block::{Block, Rows};
use super::layers::LayerNorm;
use super::precision::Precision;
use super::tower::{Field, Tower, TowerShape, UnitTuner};
use tch::{Kind, Tensor};

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

    /// Where it is computed.
    pub fn device(&self) -> tch::Device {
        self.mean.device()
    }

    /// `(bytes / 255 - mean) / std`.
    pub fn forward(&self, bytes: &Tensor) -> Tensor {
        (bytes.to_kind(self.mean.kind()) / 255.0 - &self.mean) / &self.std
    }
}

/// A vision transformer.
#[derive(Debug)]
pub struct VisionTower {
    /// Its sizes.
    pub shape: TowerShape,
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

impl Tower for VisionTower {
    fn shape(&self) -> TowerShape {
        self.shape
    }

    fn stem(&self, pixels: &Tensor) -> Tensor {
        self.stem.forward(pixels)
    }

    /// The last block gives the class token alone where no other token is read.
    fn block(&self, index: usize, x: &Tensor, tuners: &[Box<dyn UnitTuner>]) -> Tensor {
        let last = index + 1 == self.blocks.len();
        let rows = if last && self.pool == Pool::Token { Rows::First } else { Rows::All };
        self.blocks[index].forward(x, rows, tuners)
    }

    fn finish(&self, x: &Tensor) -> Tensor {
        match self.pool {
            Pool::Token => self.norm.forward(&x.select(1, 0)),
            Pool::Average => {
                let patches = self.norm.forward(&x.narrow(1, 1, self.shape.tokens - 1));
                patches.mean_dim([1i64].as_slice(), false, None::<Kind>)
            }
        }
    }

    fn projection(&self) -> Option<&Tensor> {
        self.projection.as_ref()
    }

    fn outside_blocks(&self) -> Vec<(&'static str, &Tensor)> {
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

    fn block_tensors(&self, index: usize) -> Vec<(Field, &Tensor)> {
        self.blocks[index].tensors()
    }

    fn block_tensors_mut(&mut self, index: usize) -> Vec<(Field, &mut Tensor)> {
        self.blocks[index].tensors_mut()
    }
}
