//! Runs training and evaluation over ranks; the only module that depends on all others.

pub mod calibrate;
pub mod eval;
pub mod failure;
pub mod gpu;
pub mod memory;
pub mod panics;
pub mod predict;
pub mod rank;
pub mod setup;
pub mod step;
pub mod training;
pub mod writable;
