//! The training loop: the steps of a run in their order. The files of `train/` contain what follows from a step.
//! docs/architecture.md explains it by line.

mod after_step;
mod non_finite;
mod records;
mod saving;

use crate::config::NonFinite;
use crate::data::loader::WaitReasons;
use crate::engine::eval::bad_images::{BadImageLimit, ImageSet};
use crate::engine::failure::Failure;
use crate::engine::rank::Rank;
use crate::engine::step::batch_plan::BatchPlan;
use crate::engine::step::device_loader::{DeviceBatch, DeviceLoader};
use crate::engine::step::scalar_row::StepFlags;
use crate::engine::step::schedule::LearningRate;
use crate::engine::step::step_parts::EpochLoss;
use crate::engine::step::stepper::Stepper;
use crate::engine::training::contention::Contention;
use crate::engine::training::frozen::FrozenWeights;
use crate::engine::training::progress::Progress;
use crate::engine::training::run_log::RunLog;
use crate::engine::training::saver::Saver;
use crate::model::Model;
use crate::run::Reporter;
pub use after_step::{AtEpochEnd, LoopEnd};
use collectives::liveness::StepClock;
use records::FinishedStep;
use std::time::Instant;

/// The training loop of one rank.
pub struct Training<'a, 'm, 'r> {
    /// This process.
    pub rank: &'a Rank,
    /// The model, with its trainable tensors.
    pub model: &'a Model,
    /// Gradients and updates.
    pub stepper: &'a mut Stepper<'m>,
    /// How far training has come: everything that a checkpoint contains beside the tensors.
    pub progress: &'a mut Progress,
    /// Steps of an epoch, and this rank's part of each.
    pub plan: BatchPlan,
    /// Learning rates.
    pub rate: LearningRate,
    /// Steps after which to stop; 0 for no limit.
    pub max_steps: u64,
    /// Steps between two comparisons of the trained tensors over ranks; 0 for none.
    pub check_every: u64,
    /// Number of images that the run may leave out.
    pub limit: BadImageLimit,
    /// Policy for steps that are not finite, and how many of them a run may have.
    pub non_finite: (NonFinite, u64),
    /// Checksums of the frozen weights at the start.
    pub frozen: &'a FrozenWeights,
    /// The loss of an epoch.
    pub loss: &'a dyn Fn(u64) -> EpochLoss,
    /// Checkpoints.
    pub saver: &'a mut Saver<'r>,
    /// Metrics and status, on rank 0.
    pub run_log: &'a mut RunLog,
    /// Progress on the terminal, on rank 0.
    pub reporter: &'a mut Reporter,
    /// Timeout of a step, after which a rank counts as stuck.
    pub clock: StepClock,
    /// Whether other programs use the cores of this rank.
    pub contention: Contention,
}

impl Training<'_, '_, '_> {
    /// Trains from `progress` to the end of the run, or to the step at which a rank is asked to stop or fails.
    pub fn run(
        &mut self,
        mut loader: DeviceLoader,
        at_epoch_end: &mut AtEpochEnd<'_>,
    ) -> Result<LoopEnd, Failure> {
        while self.progress.epoch < self.plan.epochs && !self.is_cut_off() {
            if self.progress.evaluation_due
                && let Some(request) = self.evaluate(at_epoch_end)?
            {
                return Ok(LoopEnd::Stopped(request));
            }
            self.stepper.set_loss((self.loss)(self.progress.epoch));
            while self.progress.in_epoch < self.plan.steps(self.progress.epoch) && !self.has_all_steps() {
                if let Some(end) = self.step(&mut loader)? {
                    return Ok(end);
                }
            }
            if !self.is_cut_off() {
                self.close_epoch();
            }
        }
        Ok(LoopEnd::Complete)
    }

    /// One step: batch, gradient over all ranks, update, record, checkpoint. Returns the end of the loop, if this is it.
    fn step(&mut self, loader: &mut DeviceLoader) -> Result<Option<LoopEnd>, Failure> {
        let (start, sent) = (Instant::now(), self.rank.activity.now().0.bytes);
        let (loaded, problem) = self.next_batch(loader);
        let data_wait = start.elapsed();
        let batch = loaded.as_ref().map(|loaded| &loaded.batch);
        let wait = batch.map_or_else(WaitReasons::default, |batch| batch.waited);
        let skipped = batch.map_or(&[][..], |batch| &batch.skipped);
        let bad = self.progress.left_out_images.news(ImageSet::Training, skipped);
        let flags = StepFlags {
            bad_images: bad.len() as u64,
            failed: problem.is_some(),
            stop: self.rank.stopping.requested().is_some(),
            save: self.saver.is_due_after(self.progress.steps + 1),
        };
        let (epoch, in_epoch) = (self.progress.epoch, self.progress.in_epoch);
        let usable = loaded.as_ref().filter(|_| problem.is_none());
        let own = self.plan.work((epoch, in_epoch), usable);
        let rate = self.rate.at(epoch, self.plan.steps_before(epoch) + in_epoch);
        let apply = !self.progress.skipped_steps.contains(&(self.progress.steps + 1));

        let entered = self.rank.activity.enter("step");
        if self.scales_the_loss() {
            self.stepper.set_loss_scale(self.progress.loss_scale.factor());
        }
        let outcome = self.stepper.reduced_gradient(&own, flags)?;
        if outcome.failed {
            let failure = self.common_failure(problem.as_deref())?;
            return Err(self.save_before(failure));
        }
        if outcome.bad_images > 0
            && let Err(failure) = self.progress.left_out_images.meet(&bad, self.limit, self.rank)
        {
            return Err(self.save_before(failure));
        }
        if apply && outcome.finite {
            self.saver.begin_change();
            self.stepper.update(&outcome, rate);
        }
        drop(entered);

        let bytes = self.rank.activity.now().0.bytes - sent;
        let finished = FinishedStep { outcome, rate, elapsed: start.elapsed(), data_wait, wait, bytes };
        let is_lost = !outcome.finite && apply && !self.overflowed(&outcome);
        if is_lost && self.is_rolled_back(&finished, batch)? {
            return Ok(Some(LoopEnd::Rollback));
        }
        self.record(&finished);
        self.after_step(&outcome)
    }

    /// The next batch, or why there is none.
    fn next_batch(&mut self, loader: &mut DeviceLoader) -> (Option<DeviceBatch>, Option<String>) {
        let _entered = self.rank.activity.enter("waiting for images");
        match loader.next() {
            Some(Ok(batch)) => (Some(batch), self.saver.problem()),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, Some("the loader ended before the epoch did".to_owned())),
        }
    }
}
