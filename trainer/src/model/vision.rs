//! The image tower of CLIP, ViT, DINOv2 and SigLIP. They differ in the tokens before the patches, in the layer scales
//! inside the blocks, and in the pooling.

use super::block::{Block, OutputRows};
use super::gpu_kernels::GpuKernels;
use super::graph::BlockGraph;
use super::layers::LayerNorm;
use super::pooling::Pooling;
use super::precision::Precision;
use super::tower::{Field, Tower, TowerShape, UnitTuner};
use tch::{Kind, Tensor};

/// Patches, the tokens before them, and positions.
#[derive(Debug)]
pub struct Stem {
    /// `[width, 3, patch, patch]`.
    pub patches: Tensor,
    /// `[width]`; timm's ViT has it, CLIP's has not.
    pub bias: Option<Tensor>,
    /// `[width]`; SigLIP has none.
    pub class_token: Option<Tensor>,
    /// `[registers, width]`, between the class token and the patches; some DINOv2 have them.
    pub registers: Option<Tensor>,
    /// `[tokens, width]`; zeros for tokens without a position.
    pub positions: Tensor,
    /// CLIP normalises before the first block, timm's ViT does not.
    pub norm: Option<LayerNorm>,
    /// Element types of the run.
    pub precision: Precision,
}

impl Stem {
    /// `[images, 3, side, side] -> [images, tokens, width]`.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        let side = self.patches.size()[2];
        let none: Option<&Tensor> = None;
        let bias = self.bias.as_ref().or(none);
        let x = images.to_kind(self.precision.compute);
        let x = x.conv2d(&self.patches, bias, [side, side], [0, 0], [1, 1], 1);
        let x = x.flatten(2, 3).transpose(1, 2).to_kind(self.precision.parameters);
        let (images, width) = (x.size()[0], x.size()[2]);
        let before = self.class_token.iter().chain(&self.registers);
        let each = |token: &Tensor| token.view([1, -1, width]).expand([images, -1, width], false);
        let tokens: Vec<Tensor> = before.map(each).chain([x]).collect();
        let x = Tensor::cat(&tokens, 1) + &self.positions;
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

    /// The device.
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
    /// The pooling.
    pub pooling: Pooling,
    /// Into the joint space with text, `[width, joint]`.
    pub projection: Option<Tensor>,
}

impl Tower for VisionTower {
    fn shape(&self) -> TowerShape {
        self.shape
    }

    fn stem(&self, pixels: &Tensor) -> Tensor {
        self.stem.forward(pixels)
    }

    fn block(
        &self,
        index: usize,
        x: &Tensor,
        tuners: &[Box<dyn UnitTuner>],
        graph: Option<&BlockGraph>,
    ) -> Tensor {
        // Class-token pooling reads one token of the last block, so its queries and MLP run for that token alone.
        let last = index + 1 == self.blocks.len();
        let rows = if last { self.last_rows() } else { OutputRows::All };
        self.blocks[index].forward(x, rows, tuners, graph)
    }

    fn use_gpu_kernels(&mut self, kernels: GpuKernels) {
        self.blocks.iter_mut().for_each(|block| block.gpu_kernels = Some(kernels));
    }

    fn last_rows(&self) -> OutputRows {
        self.pooling.rows()
    }

    fn finish(&self, x: &Tensor) -> Tensor {
        self.pooling.forward(x, &self.shape, &self.norm)
    }

    fn projection(&self) -> Option<&Tensor> {
        self.projection.as_ref()
    }

    fn outside_blocks(&self) -> Vec<(&'static str, &Tensor)> {
        let stem = &self.stem;
        let mut tensors = vec![("patches", &stem.patches)];
        tensors.extend(stem.class_token.iter().map(|token| ("class_token", token)));
        tensors.extend(stem.registers.iter().map(|tokens| ("registers", tokens)));
        tensors.extend([
            ("positions", &stem.positions),
            ("norm.weight", &self.norm.weight),
            ("norm.bias", &self.norm.bias),
        ]);
        tensors.extend(stem.bias.iter().map(|bias| ("patches.bias", bias)));
        if let Some(norm) = &stem.norm {
            tensors.extend([("norm_pre.weight", &norm.weight), ("norm_pre.bias", &norm.bias)]);
        }
        tensors.extend(self.projection.iter().map(|projection| ("projection", projection)));
        tensors.extend(self.pooling.tensors());
        tensors
    }

    fn block_tensors(&self, index: usize) -> Vec<(Field, &Tensor)> {
        self.blocks[index].tensors()
    }

    fn block_tensors_mut(&mut self, index: usize) -> Vec<(Field, &mut Tensor)> {
        self.blocks[index].tensors_mut()
    }
}
