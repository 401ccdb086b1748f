//! Column statistics of the global batch, for a loss over full columns of logits, before any gradient.
//!
//! The logits of all samples are needed before the first gradient. If a step has one pass, its forward half runs here
//! and is kept; with several passes, each runs forward twice, because the model's memory is sized for one. Ranks
//! exchange four numbers per class: first the greatest logits, then sums, under `any_world` in the tree of the shards.

use crate::engine::step::local_batch::LocalBatch;
use crate::engine::step::pass::Tape;
use crate::engine::step::step_parts::{Accumulation, Reduction, StepParts};
use crate::model::losses::Columns;
use collectives::{CollectiveError, ReduceOp};
use tch::{Tensor, no_grad};

/// The part of a step that runs before its passes: empty for a loss that is a sum over samples.
#[derive(Default)]
pub(crate) struct LossPrelude {
    /// The columns of the global batch.
    pub columns: Option<Columns>,
    /// The forward half of the step's only pass.
    pub tape: Option<Tape>,
}

impl LossPrelude {
    /// Collective; ranks without samples take part (law 4).
    pub fn of(parts: &StepParts<'_>, work: &LocalBatch) -> Result<Self, CollectiveError> {
        // The official rule treats each micro-batch as a batch.
        if parts.loss.loss.column_term().is_none() || parts.accumulation != Accumulation::Exact {
            return Ok(Self::default());
        }
        let (shards, passes) = match parts.reduction {
            Reduction::Buckets(_) => (1, work.passes.1.max(1)),
            Reduction::FixedTree(tree) => (work.passes.0.max(tree.most() as usize), work.passes.1.max(1)),
        };
        let model = parts.pass.model();
        let (mut own, mut kept) = (Vec::new(), None);
        for shard in 0..shards {
            let mut columns = Columns::none(model.classes().end, model.device());
            for number in 0..passes {
                let part = work.part(shard, number);
                let tape = parts.pass.forward(part.map(|part| &part.bytes))?;
                if let Some((features, part)) = tape.features().zip(part) {
                    let logits = no_grad(|| model.classify(features));
                    columns = columns.with(&Columns::of(&logits, &part.labels));
                }
                kept = (shards * passes == 1).then_some(tape);
            }
            own.push(columns);
        }
        Ok(Self { columns: Some(joined(parts, own)?), tape: kept })
    }
}

/// The columns of the global batch from those of this rank's shards.
fn joined(parts: &StepParts<'_>, mut own: Vec<Columns>) -> Result<Columns, CollectiveError> {
    let group = parts.group.as_ref();
    let mut greatest =
        own.iter().skip(1).fold(own[0].greatest().copy(), |all, columns| all.maximum(columns.greatest()));
    group.all_reduce(&mut greatest, ReduceOp::Max)?;
    let sums = match parts.reduction {
        Reduction::Buckets(_) => {
            let mut sums = own[0].sums_below(&greatest);
            group.all_reduce(&mut sums, ReduceOp::Sum)?;
            sums
        }
        Reduction::FixedTree(tree) => {
            let mine = tree.of_rank(group.rank() as u64);
            own.truncate((mine.end - mine.start) as usize);
            let sums: Vec<Tensor> = own.iter().map(|columns| columns.sums_below(&greatest)).collect();
            tree.sum(sums, group)?
        }
    };
    Ok(Columns::joined(greatest, sums))
}
