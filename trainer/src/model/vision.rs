//! The image tower of CLIP, ViT, DINOv2 and SigLIP. They differ in the tokens before the patches, in the layer scales
//! inside the blocks, and in the pooling.

use super::block::{Block, OutputRows};
use super::gpu_kernels::GpuKernels;
use super::graph::BlockGraph;
use super::layers::{LayerNorm, Linear};
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
    /// Normalised pixels, `[images, 3, side, side] -> [images, tokens, width]`.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        let images = images.to_kind(self.precision.compute);
        self.tokens(&images, (&self.patches, self.bias.as_ref()), &self.positions)
    }

    /// The same of bytes, whose normalisation the patches have taken up.
    fn of_bytes(&self, bytes: &Tensor, byte_patches: &BytePatches) -> Tensor {
        let BytePatches { patches, positions } = byte_patches;
        self.tokens(&BytePatches::scaled(bytes, self.precision.compute), (patches, None), positions)
    }

    fn tokens(
        &self,
        images: &Tensor,
        (patches, bias): (&Tensor, Option<&Tensor>),
        positions: &Tensor,
    ) -> Tensor {
        let side = patches.size()[2];
        let x = images.conv2d(patches, bias, [side, side], [0, 0], [1, 1], 1);
        let x = x.flatten(2, 3).transpose(1, 2).to_kind(self.precision.parameters);
        let (images, width) = (x.size()[0], x.size()[2]);
        let before = self.class_token.iter().chain(&self.registers);
        let each = |token: &Tensor| token.view([1, -1, width]).expand([images, -1, width], false);
        let tokens: Vec<Tensor> = before.map(each).chain([x]).collect();
        let x = Tensor::cat(&tokens, 1) + positions;
        let x = match &self.norm {
            Some(norm) => norm.forward(&x),
            None => x,
        };
        x.to_kind(self.precision.residual)
    }
}

/// The patches of a stem that reads bytes: weights and positions have taken up the normalisation of pixels, so that an image is
/// read once, in the element type of the products.
///
/// `W ((b / 255 - mean) / std) = (W 64 / (255 std)) (b - 128) / 64 + W (128 / 255 - mean) / std`: the input is exact in every
/// element type, and the second term, the same for all patches, is small because 128 is about the mean.
#[derive(Debug)]
pub struct BytePatches {
    /// `[width, 3, patch, patch]`.
    patches: Tensor,
    /// `[tokens, width]`.
    positions: Tensor,
}

impl BytePatches {
    const MIDDLE: f64 = 128.0;
    const SCALE: f64 = 64.0;

    /// For a stem whose last tokens are the patches, so many.
    fn new(stem: &Stem, patches: i64, pixels: &PixelNorm) -> Self {
        let [mean, std] = [&pixels.mean, &pixels.std].map(|tensor| tensor.to_kind(Kind::Double));
        let weight = stem.patches.to_kind(Kind::Double);
        let positions = stem.positions.to_kind(Kind::Double);
        let middle = (Self::MIDDLE / 255.0 - mean) / &std;
        let mut constant = (&weight * middle).sum_dim_intlist([1i64, 2, 3].as_slice(), false, None::<Kind>);
        if let Some(bias) = &stem.bias {
            constant += bias.to_kind(Kind::Double);
        }
        let tokens = positions.size()[0];
        let of_patches = Tensor::arange(tokens, (Kind::Int64, positions.device())).ge(tokens - patches);
        let positions = positions + of_patches.to_kind(Kind::Double).unsqueeze(1) * constant;
        Self {
            patches: (weight * (Self::SCALE / 255.0) / std).to_kind(stem.patches.kind()),
            positions: positions.to_kind(stem.positions.kind()),
        }
    }

    /// `(bytes - 128) / 64`, which is exact.
    fn scaled(bytes: &Tensor, kind: Kind) -> Tensor {
        let mut x = bytes.to_kind(kind);
        let _ = x.g_sub_scalar_(Self::MIDDLE);
        x.g_mul_scalar_(1.0 / Self::SCALE)
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
    /// The same for bytes, once the normalisation of pixels is known.
    pub byte_patches: Option<BytePatches>,
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

    fn take_up(&mut self, pixels: &PixelNorm) {
        self.byte_patches = Some(BytePatches::new(&self.stem, self.shape.patches(), pixels));
    }

    fn stem_of_bytes(&self, bytes: &Tensor) -> Option<Tensor> {
        self.byte_patches.as_ref().map(|patches| self.stem.of_bytes(bytes, patches))
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
        self.pooling.forward(&x.to_kind(self.norm.weight.kind()), &self.shape, &self.norm)
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

    fn block_layers(&self, index: usize) -> [&Linear; 4] {
        let Block { qkv, proj, fc1, fc2, .. } = &self.blocks[index];
        [qkv, proj, fc1, fc2]
    }

    fn block_layers_mut(&mut self, index: usize) -> [&mut Linear; 4] {
        let Block { qkv, proj, fc1, fc2, .. } = &mut self.blocks[index];
        [qkv, proj, fc1, fc2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn numbers(shape: &[i64], factor: f64, kind: Kind) -> Tensor {
        let places = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        // Numbers that every kind has.
        let numbers = ((places * factor).sin() * 50.0).round() / 1024.0;
        numbers.view(shape).to_kind(kind)
    }

    /// A class token, two registers, four patches.
    fn stem(precision: Precision, bias: bool) -> Stem {
        let Precision { parameters, compute, .. } = precision;
        let norm = [1.0, 0.3].map(|factor| numbers(&[8], factor, parameters) + 1.0);
        let [weight, shift] = norm;
        Stem {
            patches: numbers(&[8, 3, 16, 16], 0.7, compute),
            bias: bias.then(|| numbers(&[8], 2.1, compute)),
            class_token: Some(numbers(&[8], 1.3, parameters)),
            registers: Some(numbers(&[2, 8], 1.9, parameters)),
            positions: numbers(&[7, 8], 0.9, parameters),
            norm: bias.then(|| LayerNorm::new(weight, shift, 1e-5)),
            precision,
        }
    }

    fn bytes() -> Tensor {
        let places = Tensor::arange(2 * 3 * 32 * 32, (Kind::Int64, Device::Cpu));
        (places * 7919).remainder(256).to_kind(Kind::Uint8).view([2, 3, 32, 32])
    }

    /// Hidden states of bytes: normalised first, and by patches that have taken the normalisation up.
    fn both_ways(precision: Precision, bias: bool) -> [Tensor; 2] {
        let stem = stem(precision, bias);
        let (mean, std) = ([0.481, 0.458, 0.408], [0.269, 0.261, 0.276]);
        let pixels = PixelNorm::new(mean, std, precision.parameters, Device::Cpu);
        let byte_patches = BytePatches::new(&stem, 4, &pixels);
        [stem.forward(&pixels.forward(&bytes())), stem.of_bytes(&bytes(), &byte_patches)]
    }

    fn away(x: &Tensor, exact: &Tensor) -> f64 {
        (x.to_kind(Kind::Double) - exact).abs().max().double_value(&[]) / exact.abs().max().double_value(&[])
    }

    #[test]
    fn bytes_give_what_normalised_pixels_give() {
        for bias in [false, true] {
            let [exact, of_bytes] = both_ways(Precision::FP64, bias);
            assert!(away(&of_bytes, &exact) < 1e-14, "{:e}", away(&of_bytes, &exact));
            for (precision, bound) in
                [(Precision::FP32, 3e-6), (Precision::BF16, 2e-2), (Precision::FP16, 2e-3)]
            {
                let [normalised, of_bytes] = both_ways(precision, bias).map(|x| away(&x, &exact));
                println!("{precision:?}: {of_bytes:e}, of normalised pixels {normalised:e}");
                assert!(of_bytes < bound, "{of_bytes:e}");
            }
        }
    }

    #[test]
    fn the_hidden_state_has_the_kind_of_the_residual_stream() {
        let [of_pixels, of_bytes] = both_ways(Precision::BF16.with_residual_of_products(), true);
        assert_eq!((of_pixels.kind(), of_bytes.kind()), (Kind::BFloat16, Kind::BFloat16));
    }
}
