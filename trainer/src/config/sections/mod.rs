//! The sections, one a file: every key of the configuration, with its type and what it means.

pub mod backbone;
pub mod checkpoint;
pub mod data;
pub mod distributed;
pub mod eval;
pub mod head;
pub mod loss;
pub mod model;
pub mod train;
pub mod tuner;
