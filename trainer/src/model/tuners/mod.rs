//! Tuners: what is trained beside the head. One a file, with its options; [`Tuners`] names them all.

pub mod adaptformer;
pub mod bottleneck;
pub mod full;

use super::tuner::TunerKind;
use crate::options::{Method, Registry, Values};
use std::ops::Range;

/// Where a tuner is put.
#[derive(Debug, Clone)]
pub struct Site {
    /// Blocks that are tuned.
    pub blocks: Range<usize>,
    /// Blocks of the model.
    pub depth: usize,
    /// Classes of the data set.
    pub classes: usize,
}

/// Makes a tuner of its options.
pub type Make = fn(&Values, &Site) -> TunerKind;

/// All tuners, by `tuner.kinds`.
#[derive(Debug)]
pub enum Tuners {}

impl Registry for Tuners {
    type Make = Make;
    const KEY: &'static str = "tuner.kinds";
    const NONE: &'static str = "Nothing; the backbone stays as it is.";
    const METHODS: &'static [&'static Method<Make>] = &[&adaptformer::METHOD, &full::METHOD];
}
