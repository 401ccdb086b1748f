//! The interface of an image tower, and the sites in its blocks where tuners act.
//!
//! A tower runs unit by unit: the stem, then the blocks, then the end. This lets the engine run each block in a separate
//! autograd graph, gather its weights in time and detect when its gradients are complete.

use super::block::OutputRows;
use super::gpu_kernels::GpuKernels;
use super::graph::BlockGraph;
use super::layers::Linear;
use super::tuners::TunerModule;
use super::vision::PixelNorm;
pub use crate::weights::{BlockNames, Field};
use std::fmt;
use std::ops::Range;
use tch::Tensor;

/// Sizes of an image tower, taken from its weights.
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
    /// Width of the joint space of image and text; 0 without a text tower.
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

    /// Lets [`stem_of_bytes`](Self::stem_of_bytes) normalise pixels in this way.
    fn take_up(&mut self, pixels: &PixelNorm);

    /// Bytes to the hidden state before the first block, up to rounding as [`stem`](Self::stem) of the normalised pixels. None
    /// before [`take_up`](Self::take_up).
    fn stem_of_bytes(&self, bytes: &Tensor) -> Option<Tensor>;

    /// Hidden state before block `index` to the one after it. The last block may give only the tokens that
    /// [`finish`](Self::finish) reads: with class-token pooling, one. With `graph`, its backward pass is that of the graph;
    /// without, that of autograd.
    fn block(
        &self,
        index: usize,
        x: &Tensor,
        tuners: &[Box<dyn UnitTuner>],
        graph: Option<&BlockGraph>,
    ) -> Tensor;

    /// Computes its blocks by kernels of our own, where they serve.
    fn use_gpu_kernels(&mut self, kernels: GpuKernels);

    /// The rows that the last block produces.
    fn last_rows(&self) -> OutputRows;

    /// Hidden state after the last block to features `[n, width]`. Tokens that tuners appended are not read.
    fn finish(&self, x: &Tensor) -> Tensor;

    /// From features into the joint space with text, `[width, joint]`; `None` without a text tower.
    fn projection(&self) -> Option<&Tensor>;

    /// Its tensors before and after the blocks, by name.
    fn outside_blocks(&self) -> Vec<(&'static str, &Tensor)>;

    /// The tensors of a block.
    fn block_tensors(&self, index: usize) -> Vec<(Field, &Tensor)>;

    /// Mutable references to the tensors of a block, in the order of [`block_tensors`](Self::block_tensors).
    fn block_tensors_mut(&mut self, index: usize) -> Vec<(Field, &mut Tensor)>;

    /// The linear layers of a block, in the order of [`LinearSite::ALL`].
    fn block_layers(&self, index: usize) -> [&Linear; 4];

    /// Mutable references to the linear layers of a block.
    fn block_layers_mut(&mut self, index: usize) -> [&mut Linear; 4];

    /// Normalised pixels to features, without tuners.
    fn features(&self, pixels: &Tensor) -> Tensor {
        let start = self.stem(pixels);
        self.finish(&(0..self.shape().layers).fold(start, |x, index| self.block(index, &x, &[], None)))
    }

    /// Features `[n, width]` in the joint space with text, `[n, joint]`; `None` without a text tower.
    fn project(&self, features: &Tensor) -> Option<Tensor> {
        self.projection().map(|projection| features.matmul(projection))
    }
}

/// The hooks of a tuner inside one block. Every default changes nothing.
pub trait UnitTuner: fmt::Debug {
    /// The part of its effect that the weights of the block cannot hold; `None` if they can hold all of it. A tuner that
    /// has neither this nor a linear effect would be lost in an export, which compares the logits.
    fn module(&self) -> Option<TunerModule> {
        None
    }

    /// The hidden state `[n, tokens, width]` at the input of the block.
    fn enter(&self, x: Tensor) -> Tensor {
        x
    }

    /// Weight and bias to use in place of the block's own.
    fn replace(&self, site: LinearSite, frozen: &Linear) -> Option<Linear> {
        let _ = (site, frozen);
        None
    }

    /// The outputs `columns` of a linear layer: `y`, computed from `x`. The last block may call it twice for one layer:
    /// for the queries of one token, then for the keys and values of all tokens.
    fn linear(&self, site: LinearSite, x: &Tensor, columns: &Range<i64>, y: Tensor) -> Tensor {
        let _ = (site, x, columns);
        y
    }

    /// The output of a norm.
    fn norm(&self, site: NormSite, y: Tensor) -> Tensor {
        let _ = site;
        y
    }

    /// Whether [`norm`](Self::norm) changes anything. The output of the norm is then computed in the type of parameters.
    fn acts_on_norms(&self) -> bool {
        false
    }

    /// The hidden layer of the MLP, after the activation.
    fn hidden(&self, x: Tensor) -> Tensor {
        x
    }

    /// The output of the MLP, before it is added to the hidden state.
    fn mlp(&self, y: Tensor, graph: Option<&BlockGraph>) -> Tensor {
        let _ = graph;
        y
    }

    /// Whether the tuner lets a factor on the output of the MLP's norm pass through the MLP: it acts nowhere inside, or only by
    /// factors and products, and not on its output. The output is then the same times that factor, apart from the activation.
    fn is_homogeneous(&self) -> bool {
        false
    }

    /// An addition parallel to the MLP, computed from the input of the MLP's norm.
    fn beside_mlp(&self, x: &Tensor, graph: Option<&BlockGraph>) -> Option<Tensor> {
        let _ = (x, graph);
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
