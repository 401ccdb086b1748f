//! What an image tower is to the rest of the program, and the places of its blocks where tuners reach in.
//!
//! A tower is run unit by unit: the stem, then the blocks, then the end. The engine needs no more than that to run each
//! block under autograd of its own, to gather its weights in time and to know when its gradients are complete.

use super::layers::Linear;
use std::fmt;
use std::ops::Range;
use tch::Tensor;

/// Sizes of an image tower, as read off its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TowerShape {
    /// Width of the hidden state, and of the features that the head sees.
    pub width: i64,
    /// Width of the hidden layer of a block's MLP.
    pub hidden: i64,
    /// Number of blocks.
    pub layers: usize,
    /// Side of a patch in pixels.
    pub patch: i64,
    /// Side of the image in pixels.
    pub resolution: i64,
    /// Tokens of the hidden state: those before the patches, and one for each patch.
    pub tokens: i64,
    /// Register tokens among those before the patches.
    pub registers: i64,
    /// Width of the space that image and text share; 0 without a text tower.
    pub joint: i64,
}

impl TowerShape {
    /// Patches of an image.
    pub fn patches(&self) -> i64 {
        (self.resolution / self.patch).pow(2)
    }

    /// Tokens before those of the patches: a class token and registers, where the tower has them.
    pub fn prefix(&self) -> i64 {
        self.tokens - self.patches()
    }
}

/// A frozen image tower: normalised pixels `[n, 3, side, side]` to features `[n, width]`.
pub trait Tower: fmt::Debug {
    /// Its sizes.
    fn shape(&self) -> TowerShape;

    /// Pixels `[n, 3, side, side]` to the hidden state before the first block, `[n, tokens, width]`.
    fn stem(&self, pixels: &Tensor) -> Tensor;

    /// Hidden state before block `index` to the one after it. The last block may give only the tokens that
    /// [`finish`](Self::finish) reads.
    fn block(&self, index: usize, x: &Tensor, tuners: &[Box<dyn UnitTuner>]) -> Tensor;

    /// Hidden state after the last block to features `[n, width]`. Tokens that tuners appended are not read.
    fn finish(&self, x: &Tensor) -> Tensor;

    /// From features into the space shared with text, `[width, joint]`; nothing without a text tower.
    fn projection(&self) -> Option<&Tensor>;

    /// Its tensors before and after the blocks, by name.
    fn outside_blocks(&self) -> Vec<(&'static str, &Tensor)>;

    /// The tensors of a block.
    fn block_tensors(&self, index: usize) -> Vec<(Field, &Tensor)>;

    /// The places of the tensors of a block, in the order of [`block_tensors`](Self::block_tensors).
    fn block_tensors_mut(&mut self, index: usize) -> Vec<(Field, &mut Tensor)>;

    /// Normalised pixels to features through the tower alone.
    fn features(&self, pixels: &Tensor) -> Tensor {
        let start = self.stem(pixels);
        self.finish(&(0..self.shape().layers).fold(start, |x, index| self.block(index, &x, &[])))
    }

    /// Features `[n, width]` in the space shared with text, `[n, joint]`; nothing without one.
    fn project(&self, features: &Tensor) -> Option<Tensor> {
        self.projection().map(|projection| features.matmul(projection))
    }
}

/// What a tuner does inside one block. Every default leaves things as they are.
pub trait UnitTuner: fmt::Debug {
    /// The hidden state `[n, tokens, width]` on its way into the block.
    fn enter(&self, x: Tensor) -> Tensor {
        x
    }

    /// Weight and bias to use in place of the block's own.
    fn replace(&self, site: LinearSite, frozen: &Linear) -> Option<Linear> {
        let _ = (site, frozen);
        None
    }

    /// The outputs `columns` of a linear layer: `y`, computed from `x`.
    fn linear(&self, site: LinearSite, x: &Tensor, columns: &Range<i64>, y: Tensor) -> Tensor {
        let _ = (site, x, columns);
        y
    }

    /// The output of a norm.
    fn norm(&self, site: NormSite, y: Tensor) -> Tensor {
        let _ = site;
        y
    }

    /// The hidden layer of the MLP, after the activation.
    fn hidden(&self, x: Tensor) -> Tensor {
        x
    }

    /// What the MLP adds to the hidden state.
    fn mlp(&self, y: Tensor) -> Tensor {
        y
    }

    /// What is added beside the MLP, of the hidden state that the MLP's norm reads.
    fn beside_mlp(&self, x: &Tensor) -> Option<Tensor> {
        let _ = x;
        None
    }
}

/// A linear layer of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearSite {
    /// Queries, keys and values in one product.
    Qkv,
    /// After attention.
    Proj,
    /// Into the hidden layer of the MLP.
    Fc1,
    /// Out of it.
    Fc2,
}

impl LinearSite {
    /// All of a block, in the order of computation.
    pub const ALL: [Self; 4] = [Self::Qkv, Self::Proj, Self::Fc1, Self::Fc2];

    /// Inputs and outputs in a tower of that shape.
    pub fn sizes(self, shape: &TowerShape) -> (i64, i64) {
        let TowerShape { width, hidden, .. } = *shape;
        match self {
            Self::Qkv => (width, 3 * width),
            Self::Proj => (width, width),
            Self::Fc1 => (width, hidden),
            Self::Fc2 => (hidden, width),
        }
    }

    /// Its weight and its bias.
    pub fn fields(self) -> (Field, Field) {
        match self {
            Self::Qkv => (Field::QkvWeight, Field::QkvBias),
            Self::Proj => (Field::ProjWeight, Field::ProjBias),
            Self::Fc1 => (Field::Fc1Weight, Field::Fc1Bias),
            Self::Fc2 => (Field::Fc2Weight, Field::Fc2Bias),
        }
    }
}

/// A norm of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormSite {
    /// Before attention.
    First,
    /// Before the MLP.
    Second,
}

/// A tensor of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the weight or bias of a layer")]
pub enum Field {
    Norm1Weight,
    Norm1Bias,
    QkvWeight,
    QkvBias,
    ProjWeight,
    ProjBias,
    /// Factor on what attention adds, by channel (layer scale).
    Scale1,
    Norm2Weight,
    Norm2Bias,
    Fc1Weight,
    Fc1Bias,
    Fc2Weight,
    Fc2Bias,
    /// Factor on what the MLP adds, by channel (layer scale).
    Scale2,
}

impl Field {
    /// All of them, in the order of computation; a block without layer scales has all but these.
    pub const ALL: [Self; 14] = [
        Self::Norm1Weight,
        Self::Norm1Bias,
        Self::QkvWeight,
        Self::QkvBias,
        Self::ProjWeight,
        Self::ProjBias,
        Self::Scale1,
        Self::Norm2Weight,
        Self::Norm2Bias,
        Self::Fc1Weight,
        Self::Fc1Bias,
        Self::Fc2Weight,
        Self::Fc2Bias,
        Self::Scale2,
    ];

    /// Whether it is a norm's or a layer scale's, which are kept in the kind of parameters.
    pub fn is_elementwise(self) -> bool {
        matches!(
            self,
            Self::Norm1Weight
                | Self::Norm1Bias
                | Self::Norm2Weight
                | Self::Norm2Bias
                | Self::Scale1
                | Self::Scale2
        )
    }
}

/// What a weight file calls the tensors of a block, and in which order its modules are registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockNames {
    /// As in OpenAI's CLIP.
    OpenAi,
    /// As in timm's ViT.
    Timm,
}

impl BlockNames {
    /// The name of a tensor within its block.
    pub const fn of(self, field: Field) -> &'static str {
        let (open_ai, timm) = match field {
            Field::Norm1Weight => ("ln_1.weight", "norm1.weight"),
            Field::Norm1Bias => ("ln_1.bias", "norm1.bias"),
            Field::QkvWeight => ("attn.in_proj_weight", "attn.qkv.weight"),
            Field::QkvBias => ("attn.in_proj_bias", "attn.qkv.bias"),
            Field::ProjWeight => ("attn.out_proj.weight", "attn.proj.weight"),
            Field::ProjBias => ("attn.out_proj.bias", "attn.proj.bias"),
            Field::Scale1 => ("ls_1.gamma", "ls1.gamma"),
            Field::Norm2Weight => ("ln_2.weight", "norm2.weight"),
            Field::Norm2Bias => ("ln_2.bias", "norm2.bias"),
            Field::Fc1Weight => ("mlp.c_fc.weight", "mlp.fc1.weight"),
            Field::Fc1Bias => ("mlp.c_fc.bias", "mlp.fc1.bias"),
            Field::Fc2Weight => ("mlp.c_proj.weight", "mlp.fc2.weight"),
            Field::Fc2Bias => ("mlp.c_proj.bias", "mlp.fc2.bias"),
            Field::Scale2 => ("ls_2.gamma", "ls2.gamma"),
        };
        match self {
            Self::OpenAi => open_ai,
            Self::Timm => timm,
        }
    }

    /// The biases of a block, in the order in which PyTorch lists its parameters.
    pub const fn biases(self) -> [Field; 6] {
        match self {
            Self::OpenAi => [
                Field::QkvBias,
                Field::ProjBias,
                Field::Norm1Bias,
                Field::Fc1Bias,
                Field::Fc2Bias,
                Field::Norm2Bias,
            ],
            Self::Timm => [
                Field::Norm1Bias,
                Field::QkvBias,
                Field::ProjBias,
                Field::Norm2Bias,
                Field::Fc1Bias,
                Field::Fc2Bias,
            ],
        }
    }
}
