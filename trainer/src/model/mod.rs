//! Towers, tuner, head and losses. Knows nothing of ranks or of files of pictures.

pub mod adaptformer;
pub mod backbone_config;
pub mod block;
pub mod heads;
pub mod layers;
pub mod loading;
pub mod loss;
pub mod precision;
pub mod slices;
pub mod text;
pub mod tokenizer;
pub mod trainables;
pub mod tuner;
pub mod vision;

use crate::weights::TensorsFingerprint;
use adaptformer::AdaptFormer;
use block::{Block, BlockNames};
use heads::{Classes, Head, HeadKind};
use loading::Backbone;
use precision::Precision;
use slices::Slices;
use std::ops::Range;
use tch::{Device, Tensor};
use trainables::{Trainables, UnknownParameter};
use tuner::TunerKind;
use vision::{PixelNorm, VisionTower};

/// What to build on a backbone.
#[derive(Debug)]
pub struct ModelSpec {
    /// What is trained beside the head.
    pub tuner: TunerKind,
    /// The classifier.
    pub head: Box<dyn HeadKind>,
    /// The classes.
    pub classes: Classes,
    /// Seed of the first values.
    pub seed: u64,
    /// Mean and standard deviation of the pixels.
    pub pixels: ([f64; 3], [f64; 3]),
    /// Kinds of the run.
    pub precision: Precision,
    /// Where the backbone's tensors are.
    pub device: Device,
}

/// A model that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A trainable tensor is not among the specs.
    #[error(transparent)]
    Unknown(#[from] UnknownParameter),
}

/// A frozen image tower with trainable parts.
#[derive(Debug)]
pub struct Model {
    vision: VisionTower,
    adaptformers: Vec<Option<AdaptFormer>>,
    head: Box<dyn Head>,
    pixels: PixelNorm,
    trainables: Trainables,
    precision: Precision,
    first_tuned: usize,
    slices: Option<Slices>,
    classes: Classes,
}

impl Model {
    /// Lays out the trainable tensors, gives them their first values and puts them into the tower.
    pub fn build(backbone: Backbone, spec: ModelSpec) -> Result<Self, ModelError> {
        let Backbone { mut vision, names, slices, .. } = backbone;
        let precision = spec.precision;
        let mut specs = spec.tuner.specs(&vision, names);
        let (width, unit) = (vision.shape.width, vision.blocks.len());
        specs.extend(spec.head.parameters(&spec.classes, width).into_iter().map(|spec| spec.in_unit(unit)));
        let trainables = Trainables::new(specs, precision.parameters, spec.device, spec.seed);
        let adaptformers = spec.tuner.attach(&mut vision, names, &trainables, precision)?;
        let head = spec.head.build(&trainables)?;
        let (mean, std) = spec.pixels;
        let pixels = PixelNorm::new(mean, std, precision.parameters, spec.device);
        let tuned = spec.tuner.tuned_blocks();
        let first_tuned = if tuned.is_empty() { vision.blocks.len() } else { tuned.start };
        Ok(Self {
            vision,
            adaptformers,
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
        self.vision.stem.forward(&self.pixels.forward(bytes))
    }

    /// Hidden state before block `index` to the one after it, with or without the module beside it.
    pub fn block(&self, index: usize, x: &Tensor, tuned: bool) -> Tensor {
        self.vision.block(index, x, if tuned { &self.adaptformers } else { &[] })
    }

    /// The first block with something trainable in it or beside it; the number of blocks if there is none.
    pub fn first_tuned(&self) -> usize {
        self.first_tuned
    }

    /// The parts of blocks that this process holds, if it does not hold whole ones.
    pub fn slices(&self) -> Option<&Slices> {
        self.slices.as_ref()
    }

    /// Classes that the head of this process holds.
    pub fn classes(&self) -> Range<i64> {
        self.classes.own.clone()
    }

    /// Whether other processes hold some of the classes.
    pub fn classes_are_divided(&self) -> bool {
        self.classes.are_divided()
    }

    /// Bytes `[n, 3, side, side]` to features `[n, width]`, tuner included.
    pub fn features(&self, bytes: &Tensor) -> Tensor {
        self.vision.features(&self.pixels.forward(bytes), &self.adaptformers)
    }

    /// Features of the frozen tower alone.
    pub fn frozen_features(&self, bytes: &Tensor) -> Tensor {
        self.vision.features(&self.pixels.forward(bytes), &[])
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
    /// `make_whole` is called before each block, whose weights have to be in place when it returns.
    pub fn frozen_fingerprint<E>(
        &self,
        mut make_whole: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<String, E> {
        let mut all = TensorsFingerprint::default();
        for (name, tensor) in self.frozen_outside_blocks() {
            all.add(name, tensor);
        }
        for (index, block) in self.vision.blocks.iter().enumerate() {
            make_whole(index)?;
            for (name, tensor) in frozen(block) {
                all.add(name, tensor);
            }
        }
        Ok(all.finish())
    }

    /// All frozen tensors that this process holds, by name; of blocks that it holds in parts, its parts.
    pub fn frozen_held(&self) -> Vec<(String, Tensor)> {
        let outside = self.frozen_outside_blocks();
        let mut held: Vec<_> =
            outside.into_iter().map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).collect();
        for (index, block) in self.vision.blocks.iter().enumerate() {
            if let Some(part) = self.slices.as_ref().and_then(|slices| slices.part(index)) {
                held.push((format!("part of block {index}"), part.shallow_clone()));
                continue;
            }
            let named =
                |(name, tensor): (_, &Tensor)| (format!("block {index}, {name}"), tensor.shallow_clone());
            held.extend(frozen(block).map(named));
        }
        held
    }

    fn frozen_outside_blocks(&self) -> Vec<(&'static str, &Tensor)> {
        let mut tensors = self.vision.tensors_outside_blocks();
        tensors.extend(self.head.frozen());
        tensors.retain(|(_, tensor)| !tensor.requires_grad());
        tensors
    }

    /// The image tower.
    pub fn vision(&self) -> &VisionTower {
        &self.vision
    }

    /// Where pixels become numbers.
    pub fn pixels(&self) -> &PixelNorm {
        &self.pixels
    }

    /// Kinds of the run.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Where the model lives.
    pub fn device(&self) -> Device {
        self.vision.stem.patches.device()
    }
}

/// The tensors of a block that are not trained, by name.
fn frozen(block: &Block) -> impl Iterator<Item = (&'static str, &Tensor)> {
    block.tensors(BlockNames::OpenAi).into_iter().filter(|(_, tensor)| !tensor.requires_grad())
}
