//! What is trained beside the head: one file for each tuner, and the list of them.
//!
//! A tuner trains tensors of the tower in place ([`Tuner::own_tensors`]), or adds tensors of its own
//! ([`Tuner::parameters`]) and acts with them inside the blocks ([`UnitTuner`]). Several tuners act at once, in the order of
//! [`TUNERS`], which is that of the official code.

mod adapter;
mod adaptformer;
mod bias;
mod bottleneck;
mod full;
mod layer_norm;
mod lora;
mod masked;
mod set;
mod ssf;
mod vpt;

pub use adaptformer::adaptformer_numbers;
pub use bottleneck::auto_adapter_dim;
pub use masked::MASK_PREFIX;
pub use set::{Tuners, excluded};

use crate::model::precision::Precision;
use crate::model::tower::{BlockNames, Field, TowerShape, UnitTuner};
use crate::model::trainables::{Init, ParameterSpec, Trainables, UnknownParameter};
use std::ops::Range;
use tch::Tensor;

/// Every tuner, in the order in which they act within a block.
pub const TUNERS: [TunerMethod; 13] = [
    full::METHOD,
    bias::METHOD,
    layer_norm::METHOD,
    vpt::SHALLOW,
    vpt::DEEP,
    adapter::METHOD,
    adaptformer::METHOD,
    lora::ATTENTION,
    lora::MLP,
    ssf::ATTENTION,
    ssf::MLP,
    ssf::NORMS,
    masked::METHOD,
];

/// A tuner of the list.
#[derive(Debug, Clone, Copy)]
pub struct TunerMethod {
    /// Its word in `tuner.kinds`.
    pub word: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// The option of the official code that is the same.
    pub official: Option<&'static str>,
    /// The tuner for a model.
    pub build: fn(&Settings) -> Result<Box<dyn Tuner>, TunerError>,
}

/// What a tuner is built for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Sizes of the tower.
    pub shape: TowerShape,
    /// Names of its tensors.
    pub names: BlockNames,
    /// Number of classes.
    pub classes: u64,
    /// Blocks that are tuned.
    pub layers: Range<usize>,
    /// `tuner.adapter_dim`.
    pub adapter_dim: u32,
    /// `tuner.vpt_len`.
    pub vpt_len: u32,
    /// `tuner.mask_ratio`.
    pub mask_ratio: f64,
    /// `tuner.mask_seed`.
    pub mask_seed: u64,
}

/// A tuner that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TunerError {
    /// A word that no tuner has.
    #[error("no tuner is named `{0}`")]
    Unknown(String),
    /// Two tuners that exclude each other.
    #[error(
        "tuner.kinds: `{one}` and `{other}` cannot be used together, because {why}; leave out one of them"
    )]
    Excluded {
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
        /// Why.
        why: &'static str,
    },
}

/// What is trained in the blocks of a tower, block by block.
pub trait Tuner: std::fmt::Debug {
    /// The tensors of block `block` itself that it trains, of those that the block has, each with its official name.
    fn own_tensors(&self, block: usize, fields: &[Field]) -> Vec<(Field, String)> {
        let _ = (block, fields);
        Vec::new()
    }

    /// The tensors that it adds to block `block`, whose own tensors are `values`.
    fn parameters(&self, block: usize, values: &dyn Fn(Field) -> Tensor) -> Vec<ParameterSpec> {
        let _ = (block, values);
        Vec::new()
    }

    /// What acts inside block `block`, over tensors that [`parameters`](Self::parameters) named.
    fn attach(
        &self,
        block: usize,
        trainables: &Trainables,
        precision: Precision,
    ) -> Result<Option<Box<dyn UnitTuner>>, UnknownParameter> {
        let _ = (block, trainables, precision);
        Ok(None)
    }

    /// What belongs to its tensors and is not trained, by name: saved with them, and compared when they are used again.
    fn constants(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }
}

/// Names of the tensors of a list of modules, one a block: `tuner.LIST.BLOCK.NAME`, as official checkpoints have them.
#[derive(Debug, Clone, Copy)]
struct ParameterNames(&'static str);

impl ParameterNames {
    fn name(self, block: usize, name: &str) -> String {
        format!("tuner.{}.{block}.{name}", self.0)
    }

    fn spec(self, block: usize, name: &str, shape: &[i64], init: Init) -> ParameterSpec {
        ParameterSpec::new(self.name(block, name), shape, init)
    }

    fn get(self, trainables: &Trainables, block: usize, name: &str) -> Result<Tensor, UnknownParameter> {
        trainables.get(&self.name(block, name))
    }
}
