//! Learning rates over a run.

use std::f64::consts::PI;

/// Shape of the learning rate over the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Half a cosine over the epochs, one value for all steps of an epoch, as in the official code.
    CosinePerEpoch,
    /// Half a cosine over the steps of the run.
    CosinePerStep,
    /// Constant.
    Constant,
}

/// A schedule for one run.
#[derive(Debug, Clone, Copy)]
pub struct LearningRate {
    /// Shape.
    pub schedule: Schedule,
    /// First value.
    pub base: f64,
    /// Epochs of the run.
    pub epochs: u64,
    /// Steps of the run.
    pub steps: u64,
}

impl LearningRate {
    /// The rate of a step, both numbers counted from 0 over the run.
    pub fn at(&self, epoch: u64, step: u64) -> f64 {
        let cosine =
            |done: u64, all: u64| self.base * 0.5 * (1.0 + (PI * done as f64 / all.max(1) as f64).cos());
        match self.schedule {
            Schedule::CosinePerEpoch => cosine(epoch, self.epochs),
            Schedule::CosinePerStep => cosine(step, self.steps),
            Schedule::Constant => self.base,
        }
    }
}
