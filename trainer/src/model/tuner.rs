//! What is trained beside the head: AdaptFormer modules, whole blocks, or nothing.

use super::adaptformer::AdaptFormer;
use super::block::BlockNames;
use super::precision::Precision;
use super::trainables::{Init, ParameterSpec, Trainables, UnknownParameter};
use super::vision::VisionTower;
use std::ops::Range;

/// Which tuner, and on which blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunerKind {
    /// The backbone stays as it is.
    None,
    /// One AdaptFormer beside each block of the range.
    AdaptFormer {
        /// Bottleneck width.
        dim: i64,
        /// Blocks that get one.
        layers: Range<usize>,
    },
    /// Every tensor of the blocks of the range; what lies before and after the blocks stays frozen.
    Full {
        /// Blocks that are trained.
        layers: Range<usize>,
    },
}

impl TunerKind {
    /// The tuner's trainable tensors, by block.
    pub fn specs(&self, tower: &VisionTower, names: BlockNames) -> Vec<ParameterSpec> {
        match self {
            Self::None => Vec::new(),
            Self::AdaptFormer { dim, layers } => {
                let width = tower.shape.width;
                let specs = |i| AdaptFormer::specs(&adaptformer_prefix(i), width, *dim);
                in_units(layers, specs)
            }
            Self::Full { layers } => in_units(layers, |i| full_specs(tower, names, i)),
        }
    }

    /// Blocks whose own tensors are trained.
    pub fn trained_blocks(&self) -> Range<usize> {
        match self {
            Self::Full { layers } => layers.clone(),
            _ => 0..0,
        }
    }

    /// Blocks that have something trainable in them or beside them.
    pub fn tuned_blocks(&self) -> Range<usize> {
        match self {
            Self::None => 0..0,
            Self::AdaptFormer { layers, .. } | Self::Full { layers } => layers.clone(),
        }
    }

    /// Puts the trainable tensors into the tower, and gives the modules beside its blocks.
    pub fn attach(
        &self,
        tower: &mut VisionTower,
        names: BlockNames,
        trainables: &Trainables,
        precision: Precision,
    ) -> Result<Vec<Option<AdaptFormer>>, UnknownParameter> {
        match self {
            Self::None => Ok(Vec::new()),
            Self::AdaptFormer { layers, .. } => (0..tower.blocks.len())
                .map(|i| {
                    let prefix = adaptformer_prefix(i);
                    layers.contains(&i).then(|| AdaptFormer::new(&prefix, trainables, precision)).transpose()
                })
                .collect(),
            Self::Full { layers } => {
                for i in layers.clone() {
                    for (name, slot) in tower.blocks[i].tensors_mut(names) {
                        *slot = trainables.get(&full_name(i, name))?;
                    }
                }
                Ok(Vec::new())
            }
        }
    }
}

fn in_units(layers: &Range<usize>, specs: impl Fn(usize) -> Vec<ParameterSpec>) -> Vec<ParameterSpec> {
    layers.clone().flat_map(|i| specs(i).into_iter().map(move |spec| spec.in_unit(i))).collect()
}

fn adaptformer_prefix(layer: usize) -> String {
    format!("tuner.adaptformer_list.{layer}")
}

fn full_name(layer: usize, name: &str) -> String {
    format!("tuner.block_tuned.{layer}.{name}")
}

fn full_specs(tower: &VisionTower, names: BlockNames, layer: usize) -> Vec<ParameterSpec> {
    let tensors = tower.blocks[layer].tensors(names).into_iter();
    tensors
        .map(|(name, tensor)| {
            let value = Init::Value(tensor.shallow_clone());
            ParameterSpec::new(full_name(layer, name), &tensor.size(), value)
        })
        .collect()
}
