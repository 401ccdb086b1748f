//! One optimiser step over a global batch, on one rank.

use crate::engine::step::classifier::{Classifier, SampleLoss, TrainingObjective};
use crate::engine::step::columns::LossPrelude;
use crate::engine::step::gradient_sync::{GradientSync, SyncOptions};
use crate::engine::step::pass::{Pass, Tape};
use crate::engine::step::sgd::Sgd;
use crate::engine::step::shard_tree::ShardTree;
use crate::model::losses::{Columns, Loss};
use collectives::{CollectiveError, Pending, ProcessGroup, ReduceOp};
use std::rc::Rc;
use tch::{Kind, Tensor};

/// Samples that go through the model at once.
#[derive(Debug)]
pub struct MicroBatch {
    /// Pixels, `[n, 3, side, side]`, bytes, on the model's device.
    pub bytes: Tensor,
    /// Labels, `[n]`, int64.
    pub labels: Tensor,
}

/// A rank's part of a global batch.
#[derive(Debug, Default)]
pub struct LocalBatch {
    /// The micro-batches of each of the rank's shards.
    pub shards: Vec<Vec<MicroBatch>>,
    /// Largest number of shards of any rank and of micro-batches of any shard: every rank makes this number of passes.
    pub passes: (usize, usize),
}

impl LocalBatch {
    /// One shard, for a rank that computes alone.
    pub fn alone(parts: Vec<MicroBatch>) -> Self {
        Self { passes: (1, parts.len().max(1)), shards: vec![parts] }
    }

    /// A micro-batch of a shard; none if this rank does not have it or it has no samples.
    pub(crate) fn part(&self, shard: usize, number: usize) -> Option<&MicroBatch> {
        self.shards.get(shard)?.get(number).filter(|part| part.labels.numel() > 0)
    }
}

/// How the gradients of micro-batches are combined into the gradient of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accumulation {
    /// The mean over the global batch, however it is cut (law 1).
    Exact,
    /// The rule of the official code: means over micro-batches, divided by the number of micro-batches of a full batch,
    /// even if the last group has fewer. For one rank.
    Official {
        /// Micro-batches of a full batch.
        micro_batches: u64,
    },
}

/// How the gradients of ranks are reduced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reduction {
    /// Reduced in buckets, overlapped with the backward pass.
    Buckets(SyncOptions),
    /// Added in one fixed tree over the shards of the batch, which are distributed over ranks.
    FixedTree(ShardTree),
}

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
mod row {
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

/// Parts of a model in training on this rank.
pub struct StepParts<'a> {
    /// Forward and backward pass through the model.
    pub pass: Pass<'a>,
    /// From features to losses.
    pub classifier: &'a Classifier,
    /// The objective.
    pub loss: Box<dyn Loss>,
    /// All ranks.
    pub group: Rc<dyn ProcessGroup>,
    /// How their gradients are reduced.
    pub reduction: Reduction,
    /// How micro-batches are accumulated.
    pub accumulation: Accumulation,
    /// Momentum and weight decay.
    pub optimiser: (f64, f64),
}

/// A model in training on this rank.
pub struct Stepper<'a> {
    parts: StepParts<'a>,
    sync: GradientSync,
    row: Option<(Tensor, Pending)>,
    sgd: Sgd,
}

impl<'a> Stepper<'a> {
    /// A stepper whose momentum starts at zero.
    pub fn new(parts: StepParts<'a>) -> Self {
        let model = parts.pass.model();
        let trainables = model.trainables();
        let (momentum, weight_decay) = parts.optimiser;
        let sgd = Sgd::new(&trainables.flat(), momentum, weight_decay);
        let mut units = trainables.units();
        if parts.classifier.is_collective() {
            // With sharded classes, the gradient of a rank's classes is complete without the other ranks.
            units.retain(|(unit, _)| *unit < model.tower().shape().layers);
        }
        let options = match parts.reduction {
            Reduction::Buckets(options) => options,
            Reduction::FixedTree(_) => SyncOptions { bucket_bytes: 1, overlap: false, wire: None },
        };
        let sync = GradientSync::new(Rc::clone(&parts.group), trainables.gradient(), &units, options);
        Self { parts, sync, row: None, sgd }
    }

    /// Runs forward and backward over this rank's part, and one reduction of exactly the trainable gradients. Updates
    /// nothing.
    ///
    /// A rank without samples, or one that has failed, contributes zeros (law 4).
    pub fn gradient(&mut self, work: &LocalBatch, notice: StepFlags) -> Result<StepOutcome, CollectiveError> {
        let (scalars, own_finite) = match self.parts.reduction {
            Reduction::Buckets(_) => self.reduce_in_buckets(work, notice)?,
            Reduction::FixedTree(tree) => self.reduce_in_tree(work, notice, tree)?,
        };
        // The division runs on the device, so the host does not wait before it queues the update.
        let mut gradient = self.parts.pass.model().trainables().gradient();
        // A batch without samples has a zero gradient; the divisor must not turn it into 0/0.
        let least = f64::from(f32::MIN_POSITIVE);
        let divisor = scalars.get(row::DIVISOR).clamp_min(least).to_kind(gradient.kind());
        let _ = gradient.g_div_(&divisor);
        let mut finite = gradient.sum(Kind::Double).isfinite().to_kind(Kind::Double).view([1]);
        if self.parts.classifier.is_collective() {
            self.parts.group.all_reduce(&mut finite, ReduceOp::Min)?;
        }
        Ok(outcome(&scalars, &finite, &own_finite))
    }

    /// Applies the gradient that was reduced last, unless the step has failed or is not finite. Makes no collective
    /// calls.
    pub fn update(&mut self, outcome: &StepOutcome, learning_rate: f64) {
        if !outcome.failed && outcome.finite && outcome.samples > 0 {
            let trainables = self.parts.pass.model().trainables();
            self.sgd.step(&mut trainables.flat(), &trainables.gradient(), learning_rate);
        }
    }

    /// Replaces the objective: the prior of a sampler may change from epoch to epoch.
    pub fn set_loss(&mut self, loss: Box<dyn Loss>) {
        self.parts.loss = loss;
    }

    /// The optimiser's momentum, laid out as the flat buffer.
    pub fn momentum(&self) -> &Tensor {
        self.sgd.buffer()
    }

    fn reduce_in_buckets(
        &mut self,
        work: &LocalBatch,
        notice: StepFlags,
    ) -> Result<(Tensor, Tensor), CollectiveError> {
        let mut own = ScalarRow::new(self.parts.pass.model().device());
        let _ = self.parts.pass.model().trainables().gradient().zero_();
        let LossPrelude { columns, mut tape } = LossPrelude::of(&self.parts, work)?;
        let passes = work.passes.1.max(1);
        for number in 0..passes {
            let part = work.part(0, number);
            let last = Some(notice).filter(|_| number + 1 == passes);
            self.pass(part, (columns.as_ref(), tape.take()), &mut own, last)?;
        }
        self.sync.finish()?;
        let (scalars, pending) = self.row.take().unwrap_or_else(|| (own.close(notice), Pending::done()));
        pending.wait()?;
        Ok((scalars, own.finite()))
    }

    fn reduce_in_tree(
        &mut self,
        work: &LocalBatch,
        notice: StepFlags,
        tree: ShardTree,
    ) -> Result<(Tensor, Tensor), CollectiveError> {
        let (model, group) = (self.parts.pass.model(), Rc::clone(&self.parts.group));
        let mut gradient = model.trainables().gradient();
        let own = tree.of_rank(group.rank() as u64);
        let (mut rows, mut gradients) = (Vec::new(), Vec::new());
        let mut finite = Tensor::ones([], (Kind::Bool, model.device()));
        let LossPrelude { columns, mut tape } = LossPrelude::of(&self.parts, work)?;
        for shard in 0..work.passes.0.max(tree.most() as usize) {
            let mut row = ScalarRow::new(model.device());
            let _ = gradient.zero_();
            for number in 0..work.passes.1.max(1) {
                let part = work.part(shard, number);
                self.pass(part, (columns.as_ref(), tape.take()), &mut row, None)?;
            }
            if (shard as u64) < own.end - own.start {
                finite = finite.logical_and(&row.finite());
                // The rank's own flags count once, not once per shard.
                rows.push(row.close(if shard == 0 { notice } else { StepFlags::default() }));
                gradients.push(gradient.copy());
            }
        }
        let sum = tree.sum(gradients, group.as_ref())?;
        gradient.copy_(&sum);
        Ok((tree.sum(rows, group.as_ref())?, finite))
    }

    /// Runs one micro-batch forward, unless that was done `ahead`, and backward, and adds to the gradient and to `row`.
    /// The last one of a step receives the flags: then the row and the gradients are reduced as they are completed.
    fn pass(
        &mut self,
        part: Option<&MicroBatch>,
        ahead: (Option<&Columns>, Option<Tape>),
        row: &mut ScalarRow,
        last: Option<StepFlags>,
    ) -> Result<(), CollectiveError> {
        let StepParts { pass, classifier, loss, group, accumulation, .. } = &self.parts;
        let model = pass.model();
        let (columns, tape) = ahead;
        let tape = tape.map_or_else(|| pass.forward(part.map(|part| &part.bytes)), Ok)?;
        let samples = tape.features().zip(part.map(|part| &part.labels));
        let mean = matches!(accumulation, Accumulation::Official { .. });
        if let Some(found) =
            classifier.loss(model, samples, TrainingObjective { loss: loss.as_ref(), columns, mean })?
        {
            row.add(&found, part.map_or(0, |part| part.labels.numel()), *accumulation);
        }
        let sync = &mut self.sync;
        if let Some(notice) = last {
            let scalars = row.close(notice);
            let pending = group.start_all_reduce(&scalars, ReduceOp::Sum)?;
            self.row = Some((scalars, pending));
            sync.unit_done(model.tower().shape().layers)?;
        }
        pass.backward(tape, &mut |unit| if last.is_some() { sync.unit_done(unit) } else { Ok(()) })
    }
}

/// A row of scalars under construction. The entries that depend on samples are on the device.
struct ScalarRow {
    loss: Tensor,
    normaliser: Tensor,
    divisor: Tensor,
    samples: usize,
}

impl ScalarRow {
    fn new(device: tch::Device) -> Self {
        let zero = || Tensor::zeros([1], (Kind::Double, device));
        Self { loss: zero(), normaliser: zero(), divisor: zero(), samples: 0 }
    }

    fn add(&mut self, found: &SampleLoss, samples: usize, accumulation: Accumulation) {
        let _ = self.loss.g_add_(&found.sum.to_kind(Kind::Double).view([1]));
        let _ = self.normaliser.g_add_(&found.normaliser.view([1]));
        self.samples += samples;
        self.divisor = match accumulation {
            Accumulation::Exact => self.normaliser.shallow_clone(),
            Accumulation::Official { micro_batches } => self.normaliser.full_like(micro_batches as f64),
        };
    }

    fn finite(&self) -> Tensor {
        self.loss.isfinite().view([])
    }

    fn close(&self, notice: StepFlags) -> Tensor {
        let known = [
            self.samples as f64,
            notice.bad_images as f64,
            flag(notice.failed),
            flag(notice.stop),
            flag(notice.save),
        ];
        let known = Tensor::from_slice(&known).to_device(self.loss.device());
        Tensor::cat(&[&self.loss, &self.normaliser, &self.divisor, &known], 0)
    }
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

/// Reads the row: the only point of a step where the host waits for the device.
fn outcome(scalars: &Tensor, gradient_finite: &Tensor, own_finite: &Tensor) -> StepOutcome {
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
