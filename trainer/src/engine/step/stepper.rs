//! One optimiser step over a global batch, on one rank.

use crate::engine::step::classifier::{GradientScale, SampleLoss, TrainingObjective};
use crate::engine::step::columns::LossPrelude;
use crate::engine::step::gradient_sync::{GradientSync, SyncOptions};
use crate::engine::step::local_batch::{LocalBatch, MicroBatch};
use crate::engine::step::pass::Tape;
use crate::engine::step::pass_graphs::PassGraphs;
use crate::engine::step::scalar_row::{ScalarRow, StepFlags, StepOutcome, read_outcome, row};
use crate::engine::step::sgd::Sgd;
use crate::engine::step::shard_tree::ShardTree;
use crate::engine::step::step_parts::{Accumulation, EpochLoss, Reduction, StepParts};
use crate::model::losses::Columns;
use collectives::{CollectiveError, Pending, ReduceOp};
use std::rc::Rc;
use tch::{Kind, Tensor};

/// A model in training on this rank.
pub struct Stepper<'a> {
    parts: StepParts<'a>,
    sync: GradientSync,
    row: Option<(Tensor, Pending)>,
    sgd: Sgd,
    loss_scale: f64,
    graphs: Option<PassGraphs>,
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
        let graphs = parts.cuda_graphs.then(|| PassGraphs::new(model.device())).flatten();
        Self { parts, sync, row: None, sgd, loss_scale: 1.0, graphs }
    }

    /// Runs forward and backward over this rank's part, and one reduction of exactly the trainable gradients. Updates
    /// nothing.
    ///
    /// A rank without samples, or one that has failed, contributes zeros (law 4).
    pub fn reduced_gradient(
        &mut self,
        work: &LocalBatch,
        notice: StepFlags,
    ) -> Result<StepOutcome, CollectiveError> {
        let (scalars, own_finite) = match self.parts.reduction {
            Reduction::Buckets(_) => self.reduce_in_buckets(work, notice)?,
            Reduction::FixedTree(tree) => self.reduce_in_tree(work, notice, tree)?,
        };
        // The division runs on the device, so the host does not wait before it queues the update.
        let mut gradient = self.parts.pass.model().trainables().gradient();
        // A batch without samples has a zero gradient; the divisor must not turn it into 0/0.
        let least = f64::from(f32::MIN_POSITIVE);
        let divisor = scalars.get(row::DIVISOR).clamp_min(least) * self.loss_scale;
        let divisor = divisor.to_kind(gradient.kind());
        let _ = gradient.g_div_(&divisor);
        let mut finite = is_finite(&gradient).to_kind(Kind::Double).view([1]);
        if self.parts.classifier.is_collective() {
            self.parts.group.all_reduce(&mut finite, ReduceOp::Min)?;
        }
        Ok(read_outcome(&scalars, &finite, &own_finite))
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
    pub fn set_loss(&mut self, loss: EpochLoss) {
        if loss.distribution != self.parts.loss.distribution {
            self.graphs.iter_mut().for_each(PassGraphs::forget);
            self.parts.loss = loss;
        }
    }

    /// The factor on the loss in the backward passes from now on; gradients do not contain it.
    pub fn set_loss_scale(&mut self, factor: f64) {
        self.loss_scale = factor;
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
            self.micro_batch(part, (columns.as_ref(), tape.take()), &mut own, last)?;
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
                self.micro_batch(part, (columns.as_ref(), tape.take()), &mut row, None)?;
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
    fn micro_batch(
        &mut self,
        part: Option<&MicroBatch>,
        ahead: (Option<&Columns>, Option<Tape>),
        row: &mut ScalarRow,
        last: Option<StepFlags>,
    ) -> Result<(), CollectiveError> {
        if let Some(part) = part
            && let Some(found) = self.pass_by_graph(part)?
        {
            row.add(&found, part.labels.numel(), self.parts.accumulation);
            return self.reduce_whole(row, last);
        }
        let (columns, tape) = ahead;
        let pass = self.parts.pass;
        let tape = tape.map_or_else(|| pass.forward(part.map(|part| &part.bytes)), Ok)?;
        let scale = GradientScale::Number(self.loss_scale);
        if let Some(found) = to_features(&self.parts, &tape, part, (columns, scale))? {
            row.add(&found, part.map_or(0, |part| part.labels.numel()), self.parts.accumulation);
        }
        // The gradients of the head are complete from here on, those of a block when `backward` reports it.
        if let Some(notice) = last {
            self.start_reduction(row, notice)?;
        }
        let sync = &mut self.sync;
        pass.backward(tape, &mut |unit| if last.is_some() { sync.unit_done(unit) } else { Ok(()) })
    }

    /// The same pass as a CUDA graph; none if it has to run without one.
    fn pass_by_graph(&mut self, part: &MicroBatch) -> Result<Option<SampleLoss>, CollectiveError> {
        let (parts, Some(graphs)) = (&self.parts, &mut self.graphs) else { return Ok(None) };
        graphs.run(part, self.loss_scale, |part, scale| {
            let tape = parts.pass.forward(Some(&part.bytes))?;
            let found = to_features(parts, &tape, Some(part), (None, GradientScale::OnDevice(scale)))?;
            parts.pass.backward(tape, &mut |_| Ok(()))?;
            Ok(found)
        })
    }

    /// Reduces, after the last pass of a step, what a pass without a graph reduces meanwhile: in the same order.
    fn reduce_whole(&mut self, row: &ScalarRow, last: Option<StepFlags>) -> Result<(), CollectiveError> {
        let Some(notice) = last else { return Ok(()) };
        self.start_reduction(row, notice)?;
        self.sync.unit_done(self.parts.pass.model().first_tuned())
    }

    /// Sends the row, and the gradients of the head.
    fn start_reduction(&mut self, row: &ScalarRow, notice: StepFlags) -> Result<(), CollectiveError> {
        let scalars = row.close(notice);
        let pending = self.parts.group.start_all_reduce(&scalars, ReduceOp::Sum)?;
        self.row = Some((scalars, pending));
        self.sync.unit_done(self.parts.pass.model().tower().shape().layers)
    }
}

/// The loss of the features of a forward pass, and its backward pass down to them.
fn to_features(
    parts: &StepParts<'_>,
    tape: &Tape,
    part: Option<&MicroBatch>,
    (columns, scale): (Option<&Columns>, GradientScale<'_>),
) -> Result<Option<SampleLoss>, CollectiveError> {
    let samples = tape.features().zip(part.map(|part| &part.labels));
    let mean = matches!(parts.accumulation, Accumulation::Official { .. });
    let objective = TrainingObjective { loss: parts.loss.loss.as_ref(), columns, mean, scale };
    parts.classifier.loss_and_backward(parts.pass.model(), samples, objective)
}

/// Whether all numbers are finite, as a tensor on their device. The extremes need no memory, and NaN is both of them.
fn is_finite(numbers: &Tensor) -> Tensor {
    let (least, greatest) = numbers.aminmax(None, false);
    least.isfinite().logical_and(&greatest.isfinite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_that_is_not_finite_is_seen() {
        let largest = f32::MAX;
        for (number, expected) in [
            (largest, true),
            (-largest, true),
            (f32::NAN, false),
            (f32::INFINITY, false),
            (f32::NEG_INFINITY, false),
        ] {
            for place in [0, 1, 70_000] {
                let mut numbers = vec![largest; 70_001];
                numbers[place] = number;
                let found = is_finite(&Tensor::from_slice(&numbers)).int64_value(&[]) != 0;
                assert_eq!(found, expected, "{number} at {place}");
            }
        }
    }
}
