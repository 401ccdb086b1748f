//! The row of scalars that ranks reduce once per step, with the gradient: losses, counts and flags.

use crate::engine::gpu::upload::upload;
use crate::engine::step::classifier::SampleLoss;
use crate::engine::step::step_parts::Accumulation;
use tch::{Kind, Tensor};

/// Flags and counts that a rank sends to the others in a step, beside its gradient.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepFlags {
    /// Unreadable images that this rank encounters for the first time.
    pub bad_images: u64,
    /// This rank has failed.
    pub failed: bool,
    /// This rank received a request to stop.
    pub stop: bool,
    /// A checkpoint is due after this step.
    pub save: bool,
}

/// The result of a step, the same on all ranks.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate fact about a step")]
pub struct StepOutcome {
    /// Mean loss over the global batch; NaN if it had no sample.
    pub loss: f64,
    /// Samples of the global batch.
    pub samples: u64,
    /// Unreadable images that any rank encountered for the first time.
    pub bad_images: u64,
    /// Loss and gradient are finite.
    pub finite: bool,
    /// A rank has failed; nothing was updated.
    pub failed: bool,
    /// A rank received a request to stop.
    pub stop: bool,
    /// A checkpoint is due after this step.
    pub save: bool,
    /// Loss of this rank's own samples is finite.
    pub own_finite: bool,
}

/// The row of scalars that is reduced with the gradient, in double precision.
pub(super) mod row {
    pub const LOSS: i64 = 0;
    pub const NORMALISER: i64 = 1;
    pub const DIVISOR: i64 = 2;
    pub const SAMPLES: i64 = 3;
    pub const BAD_IMAGES: i64 = 4;
    pub const FAILED: i64 = 5;
    pub const STOP: i64 = 6;
    pub const SAVE: i64 = 7;
    pub const WIDTH: usize = 8;
}

/// A row of scalars under construction. The entries that depend on samples are on the device.
pub(super) struct ScalarRow {
    loss: Tensor,
    normaliser: Tensor,
    divisor: Tensor,
    samples: usize,
}

impl ScalarRow {
    pub fn new(device: tch::Device) -> Self {
        let zero = || Tensor::zeros([1], (Kind::Double, device));
        Self { loss: zero(), normaliser: zero(), divisor: zero(), samples: 0 }
    }

    pub fn add(&mut self, found: &SampleLoss, samples: usize, accumulation: Accumulation) {
        let _ = self.loss.g_add_(&found.sum.to_kind(Kind::Double).view([1]));
        let _ = self.normaliser.g_add_(&found.normaliser.view([1]));
        self.samples += samples;
        self.divisor = match accumulation {
            Accumulation::Exact => self.normaliser.shallow_clone(),
            Accumulation::Official { micro_batches } => self.normaliser.full_like(micro_batches as f64),
        };
    }

    pub fn finite(&self) -> Tensor {
        self.loss.isfinite().view([])
    }

    pub fn close(&self, notice: StepFlags) -> Tensor {
        let known = [
            self.samples as f64,
            notice.bad_images as f64,
            flag(notice.failed),
            flag(notice.stop),
            flag(notice.save),
        ];
        let known = upload(&known, self.loss.device());
        Tensor::cat(&[&self.loss, &self.normaliser, &self.divisor, &known], 0)
    }
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

/// Reads the row: the only point of a step where the host waits for the device.
pub(super) fn read_outcome(scalars: &Tensor, gradient_finite: &Tensor, own_finite: &Tensor) -> StepOutcome {
    let own_finite = own_finite.to_kind(Kind::Double).view([1]);
    let all = Tensor::cat(&[scalars.shallow_clone(), gradient_finite.shallow_clone(), own_finite], 0);
    let mut values = [0.0; row::WIDTH + 2];
    all.to_device(tch::Device::Cpu).copy_data(&mut values, row::WIDTH + 2);
    let at = |index: i64| values[index as usize];
    let loss = at(row::LOSS) / at(row::NORMALISER);
    let samples = at(row::SAMPLES) as u64;
    StepOutcome {
        loss,
        samples,
        bad_images: at(row::BAD_IMAGES) as u64,
        finite: (loss.is_finite() || samples == 0) && values[row::WIDTH] > 0.0,
        failed: at(row::FAILED) > 0.0,
        stop: at(row::STOP) > 0.0,
        save: at(row::SAVE) > 0.0,
        own_finite: values[row::WIDTH + 1] > 0.0,
    }
}
