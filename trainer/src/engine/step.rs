//! One optimiser step over a global batch, on one rank.

use super::sgd::Sgd;
use crate::model::Model;
use crate::model::loss::Loss;
use collectives::{CollectiveError, ProcessGroup, ReduceOp};
use tch::{Kind, Tensor};

/// Samples that go through the model at once.
#[derive(Debug)]
pub struct MicroBatch {
    /// Pixels, `[n, 3, side, side]`, bytes, on the model's device.
    pub bytes: Tensor,
    /// Classes, `[n]`, int64.
    pub labels: Tensor,
}

/// How the gradients of micro-batches become the gradient of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accumulation {
    /// The mean over the global batch, however it is cut (law 1).
    Exact,
    /// The official code's: means over micro-batches, divided by the number that a full batch has, also
    /// where the last group has fewer. For one rank.
    Official {
        /// Micro-batches of a full batch.
        micro_batches: u64,
    },
}

/// What a rank tells the others at a step, beside its gradient.
#[derive(Debug, Clone, Copy, Default)]
pub struct Notice {
    /// Samples left out because their image is broken.
    pub skipped: u64,
    /// This rank cannot go on.
    pub failed: bool,
    /// This rank was asked to stop.
    pub stop: bool,
}

/// What all ranks know after a step.
#[derive(Debug, Clone, Copy)]
pub struct StepOutcome {
    /// Mean loss over the global batch; NaN if it had no sample.
    pub loss: f64,
    /// Samples of the global batch.
    pub samples: u64,
    /// Samples left out by any rank.
    pub skipped: u64,
    /// Loss and gradient are finite.
    pub finite: bool,
    /// Some rank cannot go on; nothing was updated.
    pub failed: bool,
    /// Some rank was asked to stop.
    pub stop: bool,
}

/// The row of scalars that travels beside the gradient, in double precision.
mod row {
    pub const LOSS: i64 = 0;
    pub const NORMALISER: i64 = 1;
    pub const DIVISOR: i64 = 2;
    pub const SAMPLES: i64 = 3;
    pub const SKIPPED: i64 = 4;
    pub const FAILED: i64 = 5;
    pub const STOP: i64 = 6;
    pub const WIDTH: usize = 7;
}

/// A model in training on this rank.
pub struct Stepper<'a> {
    model: &'a Model,
    loss: Loss,
    group: &'a dyn ProcessGroup,
    accumulation: Accumulation,
    sgd: Sgd,
}

impl<'a> Stepper<'a> {
    /// A stepper whose momentum starts at zero.
    pub fn new(
        model: &'a Model,
        loss: Loss,
        group: &'a dyn ProcessGroup,
        accumulation: Accumulation,
        (momentum, weight_decay): (f64, f64),
    ) -> Self {
        let sgd = Sgd::new(&model.trainables().flat(), momentum, weight_decay);
        Self { model, loss, group, accumulation, sgd }
    }

    /// Backward over this rank's part, one reduction of exactly the trainable gradients, and the update.
    ///
    /// A rank without samples, or one that failed, takes part with zeros (law 4).
    pub fn step(
        &mut self,
        parts: &[MicroBatch],
        notice: Notice,
        learning_rate: f64,
    ) -> Result<StepOutcome, CollectiveError> {
        let mut gradient = self.model.trainables().gradient();
        let _ = gradient.zero_();
        let mut scalars = self.backward(parts, notice);
        self.group.all_reduce(&mut scalars, ReduceOp::Sum)?;
        self.group.all_reduce(&mut gradient, ReduceOp::Sum)?;
        // The division stays on the device: no wait for the host before the update is queued.
        let divisor = scalars.get(row::DIVISOR).clamp_min(f64::MIN_POSITIVE).to_kind(gradient.kind());
        let _ = gradient.g_div_(&divisor);
        let finite = gradient.sum(Kind::Double).isfinite();
        let outcome = outcome(&scalars, &finite);
        if !outcome.failed && outcome.finite && outcome.samples > 0 {
            self.sgd.step(&mut self.model.trainables().flat(), &gradient, learning_rate);
        }
        Ok(outcome)
    }

    /// Replaces the objective: the prior of a sampler may change from epoch to epoch.
    pub fn set_loss(&mut self, loss: Loss) {
        self.loss = loss;
    }

    /// The optimiser's momentum, laid out as the flat buffer.
    pub fn momentum(&self) -> &Tensor {
        self.sgd.buffer()
    }

    /// Adds this rank's gradient to the flat buffer; gives its row of scalars.
    fn backward(&self, parts: &[MicroBatch], notice: Notice) -> Tensor {
        let device = self.model.device();
        let scalars = Tensor::zeros([row::WIDTH as i64], (Kind::Double, device));
        let (mut normaliser, mut divisor, mut samples) = (0.0, 0.0, 0);
        for part in parts.iter().filter(|part| part.labels.numel() > 0) {
            let result = self.loss.forward(&self.model.logits(&part.bytes), &part.labels);
            let _ = scalars.get(row::LOSS).g_add_(&result.sum.detach());
            normaliser += result.normaliser;
            samples += part.labels.numel();
            match self.accumulation {
                Accumulation::Exact => {
                    divisor = normaliser;
                    result.sum.backward();
                }
                Accumulation::Official { micro_batches } => {
                    divisor = micro_batches as f64;
                    (result.sum / result.normaliser).backward();
                }
            }
        }
        let known = [
            normaliser,
            divisor,
            samples as f64,
            notice.skipped as f64,
            flag(notice.failed),
            flag(notice.stop),
        ];
        let known = Tensor::from_slice(&known).to_device(device);
        scalars.narrow(0, row::NORMALISER, known.numel() as i64).copy_(&known);
        scalars
    }
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

/// Reads the row: the one place of a step where the host waits for the device.
fn outcome(scalars: &Tensor, gradient_finite: &Tensor) -> StepOutcome {
    let all = Tensor::cat(&[scalars.shallow_clone(), gradient_finite.to_kind(Kind::Double).view([1])], 0);
    let mut values = [0.0; row::WIDTH + 1];
    all.to_device(tch::Device::Cpu).copy_data(&mut values, row::WIDTH + 1);
    let at = |index: i64| values[index as usize];
    let loss = at(row::LOSS) / at(row::NORMALISER);
    let samples = at(row::SAMPLES) as u64;
    StepOutcome {
        loss,
        samples,
        skipped: at(row::SKIPPED) as u64,
        finite: (loss.is_finite() || samples == 0) && values[row::WIDTH] > 0.0,
        failed: at(row::FAILED) > 0.0,
        stop: at(row::STOP) > 0.0,
    }
}
