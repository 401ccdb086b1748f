//! Tuners, one per file, and the list of them.
//!
//! A tuner trains tensors of the tower in place ([`Tuner::own_tensors`]), or adds tensors of its own
//! ([`Tuner::parameters`]) and acts with them inside the blocks ([`UnitTuner`]). Several tuners act at once, in the order of
//! [`Tuners`], which is that of the official code.

pub mod adapter;
pub mod adaptformer;
pub mod bias;
pub mod bottleneck;
pub mod full;
pub mod ia3;
pub mod layer_norm;
pub mod lora;
pub mod masked;
mod module;
mod set;
pub mod ssf;
pub mod vpt;

pub use module::{BottleneckTensors, TunerModule};
pub use set::{Excluded, TunerSet, excluded};

use crate::model::precision::Precision;
use crate::model::tower::{BlockNames, Field, TowerShape, UnitTuner};
use crate::model::trainables::{Init, ParameterSpec, Trainables, UnknownParameter};
use crate::options::{Method, Registry, Values};
use std::ops::Range;
use tch::Tensor;

/// The context in which a tuner is constructed.
#[derive(Debug, Clone)]
pub struct TunerContext {
    /// Sizes of the tower.
    pub shape: TowerShape,
    /// Names of the tensors of its blocks.
    pub names: BlockNames,
    /// Number of classes.
    pub classes: u64,
    /// Blocks that are tuned.
    pub blocks: Range<usize>,
}

/// Constructs a tuner from its options.
pub type MakeTuner = fn(&Values, &TunerContext) -> Box<dyn Tuner>;

/// All tuners, by `tuner.kinds`, in the order in which they act within a block. A tuner with an official name also has
/// a line in `weights/official/mod.rs`, where its tensors are read and written; a test compares both lists.
#[derive(Debug)]
pub enum Tuners {}

impl Registry for Tuners {
    type Make = MakeTuner;
    const KEY: &'static str = "tuner.kinds";
    const NONE: &'static str = "No tuner; the backbone is not changed.";
    const METHODS: &'static [&'static Method<MakeTuner>] = &[
        &full::METHOD,
        &bias::METHOD,
        &layer_norm::METHOD,
        &vpt::SHALLOW,
        &vpt::DEEP,
        &adapter::METHOD,
        &adaptformer::METHOD,
        &lora::ATTENTION,
        &lora::MLP,
        &ssf::ATTENTION,
        &ssf::MLP,
        &ssf::NORMS,
        &masked::METHOD,
        &ia3::METHOD,
    ];
}

/// The hooks of a tuner inside a block, if it has any there.
pub type Attached = Result<Option<Box<dyn UnitTuner>>, UnknownParameter>;

/// A tuner: trains tensors in the blocks of a tower.
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

    /// The hooks inside block `block`, over the tensors of [`parameters`](Self::parameters).
    fn attach(&self, block: usize, trainables: &Trainables, precision: Precision) -> Attached {
        let _ = (block, trainables, precision);
        Ok(None)
    }

    /// Tensors that belong to the trained ones but are not trained, by name. They are saved with them and compared when
    /// they are used again.
    fn constants(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }
}

/// Names of the tensors of a list of modules, one per block: `tuner.LIST.BLOCK.NAME`, as in official checkpoints.
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
