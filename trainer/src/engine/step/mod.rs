//! One optimiser step over a global batch: its slices, forward and backward passes, reduction and update.
//! Laws are those of docs/architecture.md; law 4: every rank makes every collective call.

pub mod batch_plan;
pub mod block_gather;
pub mod classifier;
pub(crate) mod columns;
pub mod device_loader;
pub mod gradient_sync;
pub mod local_batch;
pub mod loss_scale;
pub mod pass;
mod pass_graphs;
pub mod scalar_row;
pub mod schedule;
pub mod sgd;
pub mod shard_tree;
pub(crate) mod sharded_softmax;
pub mod step_parts;
pub mod stepper;
