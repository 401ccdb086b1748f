//! A run from its start or a checkpoint to its result: the loop, checkpoints, metrics and requests to stop.

pub mod contention;
pub mod experiment;
pub(crate) mod final_weights;
pub mod frozen;
pub mod gather_shards;
pub(crate) mod heartbeat;
pub(crate) mod last_step;
#[cfg(feature = "faults")]
pub(crate) mod omitted_call;
pub mod progress;
pub mod replica_check;
pub mod restoring;
pub mod resume;
pub mod run_log;
pub mod saver;
pub mod stopping;
pub mod train;
pub mod training_run;
