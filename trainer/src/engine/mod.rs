//! The only room that sees everything: head start, training, evaluation, over ranks.

pub mod device;
pub mod evaluate;
pub mod experiment;
pub mod failure;
pub mod feed;
pub mod head_start;
pub mod loading;
pub mod rank;
pub mod schedule;
pub mod session;
pub mod sgd;
pub mod sources;
pub mod step;
pub mod train;
