//! What a step consists of: the passes through the model, the objective, and how gradients become one.

use crate::engine::step::classifier::Classifier;
use crate::engine::step::gradient_sync::SyncOptions;
use crate::engine::step::pass::Pass;
use crate::engine::step::shard_tree::ShardTree;
use crate::model::losses::Loss;
use collectives::ProcessGroup;
use std::rc::Rc;

/// Parts of a model in training on this rank.
pub struct StepParts<'a> {
    /// Forward and backward pass through the model.
    pub pass: Pass<'a>,
    /// From features to losses.
    pub classifier: &'a Classifier,
    /// The objective.
    pub loss: EpochLoss,
    /// All ranks.
    pub group: Rc<dyn ProcessGroup>,
    /// How their gradients are reduced.
    pub reduction: Reduction,
    /// How micro-batches are accumulated.
    pub accumulation: Accumulation,
    /// Momentum and weight decay.
    pub optimiser: (f64, f64),
    /// On a GPU, passes are captured as CUDA graphs.
    pub cuda_graphs: bool,
}

/// The objective of an epoch.
#[derive(Debug)]
pub struct EpochLoss {
    /// The loss.
    pub loss: Box<dyn Loss>,
    /// The distribution of classes in the epoch. Losses of one run with equal distributions are equal.
    pub distribution: Vec<f64>,
}

/// How the gradients of micro-batches are combined into the gradient of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accumulation {
    /// The mean over the global batch, however it is cut (law 1).
    Exact,
    /// The rule of the official code: means over micro-batches, divided by the number of micro-batches of a full batch,
    /// even if the last group has fewer. For one rank.
    Official {
        /// Micro-batches of a full batch.
        micro_batches: u64,
    },
}

/// How the gradients of ranks are reduced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reduction {
    /// Reduced in buckets, overlapped with the backward pass.
    Buckets(SyncOptions),
    /// Added in one fixed tree over the shards of the batch, which are distributed over ranks.
    FixedTree(ShardTree),
}
