//! Losses. One a file, with its options; [`Losses`] names them all.

pub mod cross_entropy;
pub mod logit_adjusted;

use super::loss::Loss;
use crate::options::{Method, Registry, Values};
use logit_adjusted::Prior;
use std::fmt;
use tch::{Device, Kind};

/// What losses are made for.
pub struct Site<'a> {
    /// Class frequencies.
    pub frequencies: &'a dyn Fn(Prior) -> Vec<f64>,
    /// Kind of the logits.
    pub kind: Kind,
    /// Where they are.
    pub device: Device,
}

impl fmt::Debug for Site<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("kind", &self.kind).field("device", &self.device).finish_non_exhaustive()
    }
}

/// Makes a loss of its options.
pub type Make = fn(&Values, &Site<'_>) -> Loss;

/// All losses, by `loss.kind`.
#[derive(Debug)]
pub enum Losses {}

impl Registry for Losses {
    type Make = Make;
    const KEY: &'static str = "loss.kind";
    const METHODS: &'static [&'static Method<Make>] = &[&logit_adjusted::METHOD, &cross_entropy::METHOD];
}
