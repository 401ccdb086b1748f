//! Benchmarks of collectives, samplers, the loader and steps on this machine.
//!
//! Everything runs through the same functions as training. Times are medians of rounds in which the compared variants
//! take turns, so that other load on the machine affects them equally.

pub mod collectives;
pub mod data;
mod exchange;
pub mod memory;
pub mod peer;
pub mod sampler;
pub mod snapshot;
mod statistics;
pub mod step;
mod timed;
mod variants;

pub use statistics::median;
pub use variants::Comparison;
