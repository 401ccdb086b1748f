//! Measurements: what collectives, samplers and steps cost here, and what a model of them says about larger worlds.
//!
//! Everything runs through the same functions as training does. Times are medians of rounds in which the things that
//! are compared take turns, so that whatever else the machine does meets them alike.

pub mod collectives;
mod exchange;
pub mod memory;
pub mod sampler;
pub mod scaling;
pub mod snapshot;
mod statistics;
pub mod step;
mod timed;
mod variants;

pub use statistics::median;
pub use variants::Comparison;
