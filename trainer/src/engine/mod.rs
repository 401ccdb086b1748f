//! The only room that sees everything: head start, training, evaluation, over ranks.

pub mod agreement;
pub mod bench;
pub mod classifier;
pub mod device;
pub mod evaluate;
pub mod experiment;
pub mod failure;
pub mod feed;
pub mod head_start;
mod heartbeat;
#[cfg(feature = "faults")]
mod left_out;
pub mod loading;
pub mod pass;
pub mod placement;
pub mod progress;
pub mod rank;
pub mod recorder;
pub mod restoring;
pub mod resume;
pub mod sameness;
pub mod saving;
pub mod schedule;
pub mod session;
pub mod sgd;
pub mod shards;
pub mod sources;
pub mod step;
pub mod sync;
pub mod train;
pub mod training_run;
pub mod tree;
pub mod walk;
pub mod whole;
