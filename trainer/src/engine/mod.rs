//! The only room that sees everything: head start, training, evaluation, over ranks.

pub mod agreement;
pub mod classifier;
pub mod device;
pub mod evaluate;
pub mod experiment;
pub mod failure;
pub mod feed;
pub mod head_start;
pub mod loading;
pub mod pass;
pub mod placement;
pub mod rank;
pub mod schedule;
pub mod session;
pub mod sgd;
pub mod shards;
pub mod sources;
pub mod step;
pub mod sync;
pub mod train;
pub mod tree;
pub mod walk;
pub mod whole;
