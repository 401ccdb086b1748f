//! Placement of the backbone and the classifier: replicated, or sharded over ranks.

use crate::config::{BackbonePlacement, Config, Determinism, HeadPlacement};
use crate::data::order::shard::share;
use crate::engine::failure::Failure;
use crate::engine::rank::Rank;
use crate::model::heads::Classes;
use crate::model::losses::lade;
use crate::model::slices::BlockPart;
use collectives::{ProcessGroup, ReduceOp};
use protocol::memory;
use std::rc::Rc;
use tch::Device;

/// Share of the memory that replicated backbones may use.
const MEMORY_SHARE: f64 = 0.6;

/// The placement and its reasons; the same on all ranks.
pub struct Placement {
    /// The ranks that share a sharded backbone; none if it is replicated.
    pub backbone: Option<Rc<dyn ProcessGroup>>,
    /// The classes, and this rank's share of them.
    pub classes: Classes,
    /// Notes about automatic decisions.
    pub notes: Vec<String>,
}

/// Sizes that determine the placement.
#[derive(Debug, Clone, Copy)]
pub struct PlacementSizes {
    /// Bytes of the frozen blocks.
    pub blocks: u64,
    /// Number of classes.
    pub classes: i64,
    /// Width of the features.
    pub width: i64,
    /// Bytes of a trained number.
    pub element: u64,
}

impl Placement {
    /// Determines the placement for this configuration. Collective.
    pub fn choose(config: &Config, rank: &Rank, sizes: PlacementSizes) -> Result<Self, Failure> {
        let mut notes = Vec::new();
        let backbone = backbone(config, rank, sizes, &mut notes)?;
        let sharded = shards_classes(config, rank, sizes, &mut notes);
        if sharded && sizes.classes < rank.world_size() as i64 {
            let (classes, ranks) = (sizes.classes, rank.world_size());
            let message = format!(
                "head.placement=sharded needs a class for each rank, found {classes} classes and {ranks} ranks\nhint: use head.placement=replicated"
            );
            return Err(Failure::input(message).on_all_ranks());
        }
        let classes = if sharded { own_classes(rank, sizes.classes) } else { Classes::all(sizes.classes) };
        Ok(Self { backbone, classes, notes })
    }

    /// The shard of each block on this rank.
    pub fn part(&self) -> Option<BlockPart> {
        self.backbone.as_ref().map(|group| BlockPart { index: group.rank(), count: group.size() })
    }
}

fn own_classes(rank: &Rank, total: i64) -> Classes {
    let own = share(total as u64, rank.world_size() as u64, rank.number() as u64);
    Classes { total, own: own.start as i64..own.end as i64 }
}

fn backbone(
    config: &Config,
    rank: &Rank,
    sizes: PlacementSizes,
    notes: &mut Vec<String>,
) -> Result<Option<Rc<dyn ProcessGroup>>, Failure> {
    Ok(match config.backbone.placement {
        BackbonePlacement::Replicated => None,
        BackbonePlacement::Sharded => Some(Rc::clone(&rank.group)),
        BackbonePlacement::NodeSharded => Some(rank.node_group()?),
        BackbonePlacement::Auto => {
            if rank.world_size() == 1 || fits_everywhere(rank, sizes.blocks)? {
                None
            } else {
                notes.push(format!(
                    "backbone.placement: sharded, because {} ranks of a host with {} of blocks each do not fit into its memory",
                    rank.local_size,
                    megabytes(sizes.blocks)
                ));
                Some(Rc::clone(&rank.group))
            }
        }
    })
}

/// Whether every host has enough memory for a backbone on each of its ranks. GPU memory is not checked: if the backbone
/// does not fit there, loading fails with an out-of-memory error, and the user has to choose `sharded`.
fn fits_everywhere(rank: &Rank, bytes: u64) -> Result<bool, Failure> {
    let room = if rank.device == Device::Cpu { memory::look().usable_bytes() } else { None };
    let needed = (bytes * rank.local_size as u64) as f64;
    let mut lacking = [i64::from(room.is_some_and(|room| needed > MEMORY_SHARE * room as f64))];
    rank.control.all_reduce(&mut lacking, ReduceOp::Max)?;
    Ok(lacking[0] == 0)
}

fn shards_classes(config: &Config, rank: &Rank, sizes: PlacementSizes, notes: &mut Vec<String>) -> bool {
    if !config.head.is_trained() {
        return false;
    }
    match config.head.placement {
        HeadPlacement::Replicated => false,
        HeadPlacement::Sharded => true,
        HeadPlacement::Auto => {
            let alone = rank.world_size() == 1 || sizes.classes < rank.world_size() as i64;
            if alone || config.train.determinism == Determinism::AnyWorld {
                return false;
            }
            if config.loss.kind.is(&lade::METHOD) {
                notes.push(
                    "head.placement: replicated, because loss.kind=lade needs all logits of a sample"
                        .to_owned(),
                );
                return false;
            }
            let (replicated, sharded) = wire_bytes(
                (config.train.batch_size, config.train.images_at_once()),
                rank.world_size() as f64,
                sizes,
            );
            let choice = if sharded < replicated { "sharded" } else { "replicated" };
            notes.push(format!(
                "head.placement: {choice}; a step would send {} with a replicated head and {} with a sharded one",
                megabytes(replicated as u64),
                megabytes(sharded as u64)
            ));
            sharded < replicated
        }
    }
}

/// Bytes that a rank sends in a step for the head: replicated, and with sharded classes. `batch` is the
/// global batch, `at_once` the samples per pass.
pub fn wire_bytes((batch, at_once): (u64, u64), ranks: f64, sizes: PlacementSizes) -> (f64, f64) {
    let own = batch.div_ceil(ranks as u64);
    let most = own.min(at_once);
    let (passes, rows) = (own.div_ceil(most) as f64, most as f64 * ranks);
    let (element, others) = (sizes.element as f64, (ranks - 1.0) / ranks);
    let features = rows * sizes.width as f64 * element;
    // Features and labels are gathered, gradients scattered back, three numbers per row reduced.
    let sharded = passes * others * (2.0 * features + rows * 8.0 + 2.0 * 3.0 * rows * element);
    let replicated = 2.0 * others * (sizes.classes * sizes.width) as f64 * element;
    (replicated, sharded)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.3} MB", bytes as f64 / 1e6)
}
