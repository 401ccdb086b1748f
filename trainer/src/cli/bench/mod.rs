//! `lift-trainer bench`: measurements, printed as tables or as JSON.

pub(super) mod arguments;
pub(super) mod collectives;
pub(super) mod data;
mod print;
pub(super) mod sampler;
pub(super) mod step;
