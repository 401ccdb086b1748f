//! One optimiser step over a global batch: its slices, forward and backward passes, reduction and update.

pub mod batch_plan;
pub mod block_gather;
pub mod classifier;
pub(crate) mod columns;
pub mod gradient_sync;
pub mod pass;
pub mod schedule;
pub mod sgd;
pub mod shard_tree;
pub(crate) mod sharded_softmax;
pub mod stepper;
