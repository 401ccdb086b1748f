//! Check that the frozen weights have not changed since the start of the run (law 5).
//!
//! Nothing in a run writes to them. Faulty memory, or a defect of this program, would otherwise silently continue the
//! training with a different backbone; so every rank compares its frozen tensors at each checkpoint and at the end.

use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::training::replica_check::checksum;
use crate::model::Model;

/// Checksums of the frozen tensors of this rank at the start.
#[derive(Debug)]
pub struct FrozenWeights {
    sums: Vec<(String, i64)>,
}

impl FrozenWeights {
    /// Computes the checksums of a newly built model.
    pub fn of(model: &Model) -> Self {
        Self { sums: sums(model) }
    }

    /// Fails on every rank if a frozen tensor of any rank has changed. Collective.
    pub fn check(&self, model: &Model, rank: &Rank, step: u64) -> Result<(), Failure> {
        #[cfg(feature = "faults")]
        change_one(model, rank);
        agreed(&rank.control, || {
            let now = sums(model);
            let changed = self.sums.iter().zip(&now).find(|(before, now)| before != now);
            changed.map_or(Ok(()), |((name, _), _)| {
                Err(Failure::run(format!(
                    "rank {}: the frozen weights changed during the run ({name}), found after step {step}; the memory of that host may be faulty\nhint: resume from the last checkpoint, on another host",
                    rank.number()
                )))
            })
        })
    }
}

/// The planted bug that changes a frozen weight on the last rank.
#[cfg(feature = "faults")]
fn change_one(model: &Model, rank: &Rank) {
    let planted = crate::run::checkpoint::Planted::ChangedWeight.is_played();
    if planted && rank.number() + 1 == rank.world_size() {
        let outside = model.tower().outside_blocks();
        let class_token = outside.iter().find(|(name, _)| *name == "class_token");
        if let Some((_, class_token)) = class_token {
            let _ = tch::no_grad(|| class_token.shallow_clone().fill_(0.5));
        }
    }
}

fn sums(model: &Model) -> Vec<(String, i64)> {
    let mut bytes = Vec::new();
    model.frozen_held().into_iter().map(|(name, tensor)| (name, checksum(&tensor, &mut bytes))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo;
    use crate::model::ModelSpec;
    use crate::model::backbone_config::BackboneConfig;
    use crate::model::heads::{Classes, cosine::CosineKind};
    use crate::model::loading::{LoadOptions, load, tower_shape};
    use crate::model::precision::Precision;
    use crate::model::slices::BlockPart;
    use crate::model::tower::BlockNames;
    use crate::model::tuners::{self, TunerContext, TunerSet};
    use crate::options::{Several, Values};
    use crate::weights::TensorLayout;
    use tch::{Device, no_grad};

    fn full(blocks: std::ops::Range<usize>, tensors: &crate::weights::NamedTensors) -> TunerSet {
        let shape = tower_shape(tensors, TensorLayout::OpenAiClip, 32).unwrap();
        let site = TunerContext { shape, names: BlockNames::OpenAi, classes: 3, blocks };
        TunerSet::of(&Several::of(&tuners::full::METHOD), &Values::default(), &site).unwrap()
    }

    fn model(part: Option<BlockPart>) -> Model {
        let tensors = demo::weights().unwrap();
        let config = BackboneConfig::of_layout(&tensors, TensorLayout::OpenAiClip, 32).unwrap();
        let precision = Precision::FP32;
        let options = LoadOptions { precision, device: Device::Cpu, config, part };
        let tuners = full(1..2, &tensors);
        let backbone = load(&tensors, TensorLayout::OpenAiClip, &options, &tuners).unwrap();
        let spec = ModelSpec {
            tuners,
            head: Box::new(CosineKind { scale: 25.0 }),
            classes: Classes::all(3),
            seed: 0,
            pixels: ([0.5; 3], [0.5; 3]),
            precision,
            device: Device::Cpu,
        };
        Model::build(backbone, spec).unwrap()
    }

    #[test]
    fn a_change_of_any_frozen_tensor_is_seen_and_one_of_trained_tensors_is_not() {
        let halves = Some(BlockPart { index: 1, count: 2 });
        for (part, of_a_block) in [(None, 12), (halves, 1)] {
            let model = model(part);
            let before = sums(&model);
            let frozen_blocks = model.tower().shape().layers - 1;
            assert_eq!(before.len(), 8 + of_a_block * frozen_blocks);
            assert!(
                ["class_token", "norm_pre.bias", "projection"]
                    .iter()
                    .all(|name| before.iter().any(|(its, _)| its == name))
            );
            let _ = no_grad(|| model.trainables().flat().fill_(1.0));
            assert_eq!(sums(&model), before);
            for (name, tensor) in model.frozen_held() {
                let mut element = tensor.view([-1]).narrow(0, tensor.numel() as i64 - 1, 1);
                let kept = element.copy();
                let _ = no_grad(|| element.fill_(7.0));
                let changed: Vec<_> = before.iter().zip(sums(&model)).filter(|(a, b)| *a != b).collect();
                assert_eq!(changed.len(), 1, "{name}");
                assert_eq!(changed[0].0.0, name);
                no_grad(|| element.copy_(&kept));
            }
        }
    }
}
