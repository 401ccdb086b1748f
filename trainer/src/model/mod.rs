//! Towers, tuners, heads and losses. Independent of ranks and of image files.

pub mod backbone_config;
pub mod block;
mod cpu_attention;
pub mod export;
pub mod fold;
pub mod fp8;
pub mod gpu_kernels;
pub mod graph;
pub mod heads;
pub mod layers;
pub mod loading;
pub mod losses;
pub mod pooling;
pub mod precision;
pub mod slices;
pub mod text;
pub mod tokenizer;
pub mod tower;
pub mod trainables;
pub mod tuners;
pub mod vision;

use crate::weights::TensorsFingerprint;
use graph::BlockGraph;
use heads::{Classes, Head, HeadKind, LinearHead};
use loading::Backbone;
use precision::{FrozenProducts, Kernels, Precision};
use slices::Slices;
use std::ops::Range;
use tch::{Device, TchError, Tensor, no_grad};
use tower::{BlockNames, Field, Tower, UnitTuner};
use trainables::{Trainables, UnknownParameter};
use tuners::{TunerModule, TunerSet};
use vision::PixelNorm;

/// The parts to build on a backbone.
#[derive(Debug)]
pub struct ModelSpec {
    /// The tuners that the backbone was loaded for.
    pub tuners: TunerSet,
    /// The classifier.
    pub head: Box<dyn HeadKind>,
    /// The classes.
    pub classes: Classes,
    /// Seed of the initial values.
    pub seed: u64,
    /// Mean and standard deviation of the pixels.
    pub pixels: ([f64; 3], [f64; 3]),
    /// Element types of the run.
    pub precision: Precision,
    /// Device of the backbone's tensors.
    pub device: Device,
}

/// A model that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A trainable tensor has no spec.
    #[error(transparent)]
    Unknown(#[from] UnknownParameter),
}

/// A frozen image tower with trainable parts.
#[derive(Debug)]
pub struct Model {
    tower: Box<dyn Tower>,
    names: BlockNames,
    /// The tuners inside each block.
    units: Vec<Vec<Box<dyn UnitTuner>>>,
    tuners: TunerSet,
    head: Box<dyn Head>,
    pixels: PixelNorm,
    trainables: Trainables,
    precision: Precision,
    first_tuned: usize,
    slices: Option<Slices>,
    classes: Classes,
}

impl Model {
    /// Lays out the trainable tensors, initialises them and puts them into the tower.
    pub fn build(backbone: Backbone, spec: ModelSpec) -> Result<Self, ModelError> {
        let Backbone { vision: mut tower, names, slices, parameters: mut specs, .. } = backbone;
        let precision = spec.precision;
        let (depth, width) = (tower.shape().layers, tower.shape().width);
        let first_tuned = specs.iter().map(|spec| spec.unit).min().unwrap_or(depth);
        specs.extend(spec.head.parameters(&spec.classes, width).into_iter().map(|spec| spec.in_unit(depth)));
        let trainables = Trainables::new(specs, precision.parameters, spec.device, spec.seed);
        let units = spec.tuners.attach(tower.as_mut(), &trainables, precision)?;
        let head = spec.head.build(&trainables)?;
        let (mean, std) = spec.pixels;
        let pixels = PixelNorm::new(mean, std, precision.parameters, spec.device);
        if precision.kernels == Kernels::Fused {
            tower.take_up(&pixels);
        }
        Ok(Self {
            tower,
            names,
            units,
            tuners: spec.tuners,
            head,
            pixels,
            trainables,
            precision,
            first_tuned,
            slices,
            classes: spec.classes,
        })
    }

    /// Bytes `[n, 3, side, side]` to the hidden state before the first block.
    pub fn stem(&self, bytes: &Tensor) -> Tensor {
        self.tower.stem_of_bytes(bytes).unwrap_or_else(|| self.tower.stem(&self.pixels.forward(bytes)))
    }

    /// Hidden state before block `index` to the one after it, with or without the tuners of the block.
    pub fn block(&self, index: usize, x: &Tensor, tuned: bool) -> Tensor {
        self.tower.block(index, x, if tuned { &self.units[index] } else { &[] }, None)
    }

    /// The same, tuned, with a graph for its backward pass.
    pub fn trained_block(&self, index: usize, x: &Tensor, graph: &BlockGraph) -> Tensor {
        let output = self.tower.block(index, x, &self.units[index], Some(graph));
        graph.close();
        output
    }

    /// Tokens of an image in the blocks: those of the tower, and the most that tuners append.
    pub fn tokens_in_blocks(&self) -> i64 {
        let tokens = self.tower.shape().tokens;
        let state = Tensor::zeros(
            [1, tokens, self.tower.shape().width],
            (self.precision.parameters, self.pixels.device()),
        );
        no_grad(|| {
            let entered = self.units.iter().scan(state, |state, tuners| {
                *state = tuners.iter().fold(state.shallow_clone(), |x, tuner| tuner.enter(x));
                Some(state.size()[1])
            });
            entered.max().unwrap_or(tokens)
        })
    }

    /// The first block with trainable tensors in it or beside it; the number of blocks if there is none.
    pub fn first_tuned(&self) -> usize {
        self.first_tuned
    }

    /// The shards of blocks on this process, if the blocks are sharded.
    pub fn slices(&self) -> Option<&Slices> {
        self.slices.as_ref()
    }

    /// Classes of the head on this process.
    pub fn classes(&self) -> Range<i64> {
        self.classes.own.clone()
    }

    /// Number of classes over all processes.
    pub fn total_classes(&self) -> i64 {
        self.classes.total
    }

    /// Whether the classes are sharded.
    pub fn classes_are_sharded(&self) -> bool {
        self.classes.are_sharded()
    }

    /// Bytes `[n, 3, side, side]` to features `[n, width]`, tuners included.
    pub fn features(&self, bytes: &Tensor) -> Tensor {
        let start = self.stem(bytes);
        self.tower.finish(&(0..self.units.len()).fold(start, |x, index| self.block(index, &x, true)))
    }

    /// Features of the tower without tuner modules. Tensors that tuners train in place are part of it.
    pub fn frozen_features(&self, bytes: &Tensor) -> Tensor {
        self.tower
            .finish(&(0..self.units.len()).fold(self.stem(bytes), |x, index| self.block(index, &x, false)))
    }

    /// Features `[n, width]` to logits `[n, classes]`, in the kind of parameters.
    pub fn classify(&self, features: &Tensor) -> Tensor {
        self.head.forward(&features.to_kind(self.precision.parameters))
    }

    /// Bytes to logits.
    pub fn logits(&self, bytes: &Tensor) -> Tensor {
        self.classify(&self.features(bytes))
    }

    /// The trainable tensors.
    pub fn trainables(&self) -> &Trainables {
        &self.trainables
    }

    /// Fingerprint of all frozen tensors: the same before and after training (law 5).
    ///
    /// `all_gather_block` is called before each block; the weights of the block must be in place when it returns.
    pub fn frozen_fingerprint<E>(
        &self,
        mut all_gather_block: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<String, E> {
        let mut all = TensorsFingerprint::default();
        for (name, tensor) in self.frozen_outside_blocks() {
            all.add(name, tensor);
        }
        for index in 0..self.units.len() {
            all_gather_block(index)?;
            for (field, tensor) in self.frozen_of(index) {
                all.add(BlockNames::OpenAi.of(field), tensor);
            }
        }
        Ok(all.finish())
    }

    /// All frozen tensors on this process, by name; for sharded blocks, its shards.
    pub fn frozen_held(&self) -> Vec<(String, Tensor)> {
        let outside = self.frozen_outside_blocks();
        let mut held: Vec<_> =
            outside.into_iter().map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).collect();
        for index in 0..self.units.len() {
            if let Some(part) = self.slices.as_ref().and_then(|slices| slices.part(index)) {
                held.push((format!("part of block {index}"), part.shallow_clone()));
                continue;
            }
            held.extend(self.frozen_of(index).map(|(field, tensor)| {
                (format!("block {index}, {}", self.names.of(field)), tensor.shallow_clone())
            }));
        }
        held
    }

    /// The frozen tensors of a block.
    fn frozen_of(&self, block: usize) -> impl Iterator<Item = (Field, &Tensor)> {
        self.tower.block_tensors(block).into_iter().filter(|(_, tensor)| !tensor.requires_grad())
    }

    fn frozen_outside_blocks(&self) -> Vec<(&'static str, &Tensor)> {
        let mut tensors = self.tower.outside_blocks();
        tensors.extend(self.head.frozen());
        tensors.retain(|(_, tensor)| !tensor.requires_grad());
        tensors
    }

    /// Sets how the frozen layers of the blocks are computed; blocks must be whole. Fails if their weights do not fit into memory
    /// a second time.
    pub fn compute_frozen(&mut self, way: FrozenProducts) -> Result<(), TchError> {
        for block in 0..self.units.len() {
            for layer in self.tower.block_layers_mut(block) {
                layer.compute_frozen(way)?;
            }
        }
        Ok(())
    }

    /// The image tower.
    pub fn tower(&self) -> &dyn Tower {
        self.tower.as_ref()
    }

    /// The head as a linear layer.
    pub fn linear_head(&self) -> LinearHead {
        no_grad(|| self.head.as_linear())
    }

    /// Modules that tuners add to a block, in the order in which they act.
    pub fn modules(&self, block: usize) -> Vec<TunerModule> {
        no_grad(|| self.units[block].iter().filter_map(|tuner| tuner.module()).collect())
    }

    /// The tuners.
    pub fn tuners(&self) -> &TunerSet {
        &self.tuners
    }

    /// The pixel normalisation.
    pub fn pixels(&self) -> &PixelNorm {
        &self.pixels
    }

    /// Element types of the run.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The device of the model.
    pub fn device(&self) -> Device {
        self.pixels.device()
    }
}
