//! Training: one visible loop.

use super::agreement::check_agreement;
use super::failure::Failure;
use super::feed::Plan;
use super::rank::Rank;
use super::schedule::LearningRate;
use super::step::{Notice, StepOutcome, Stepper};
use crate::data::loader::{Batch, Loader};
use crate::data::{DataError, loader};
use crate::model::Model;
use crate::model::loss::Loss;
use crate::run::{EpochRecord, EvalRecord, MetricsWriter, Record, Reporter, Request, StepRecord};
use collectives::ReduceOp;
use std::time::{Duration, Instant};

/// What the loop needs beside the model.
pub struct Training<'a> {
    /// This process.
    pub rank: &'a Rank,
    /// Steps and slices.
    pub plan: Plan,
    /// Learning rates.
    pub rate: LearningRate,
    /// Steps after which to stop; 0 for none.
    pub max_steps: u64,
    /// Steps between two comparisons of the trained tensors over ranks; 0 for none.
    pub check_every: u64,
    /// Broken images that may be left out, over the whole run.
    pub max_bad_images: u64,
    /// The objective of an epoch.
    pub loss: &'a dyn Fn(u64) -> Loss,
    /// Rank 0's file of metrics.
    pub metrics: Option<&'a mut MetricsWriter>,
    /// Rank 0's terminal.
    pub reporter: &'a mut Reporter,
}

/// How training went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trained {
    /// Steps made.
    pub steps: u64,
    /// Samples seen.
    pub samples: u64,
    /// Broken images left out.
    pub bad_images: u64,
    /// Time in the loop.
    pub elapsed: Duration,
    /// What some rank was asked to do, if that ended the run.
    pub stopped: Option<Request>,
}

/// Means over the steps of an epoch.
#[derive(Default)]
struct EpochTotals {
    losses: f64,
    steps: u64,
    samples: u64,
}

impl Training<'_> {
    /// Trains to the end, or to the step at which a rank was asked to stop or could not go on.
    ///
    /// `at_epoch_end` runs on all ranks after each epoch but the last, and may evaluate.
    pub fn run(
        &mut self,
        model: &Model,
        stepper: &mut Stepper<'_>,
        mut loader: Loader,
        mut at_epoch_end: impl FnMut(u64, u64, &mut Reporter) -> Result<Option<EvalRecord>, Failure>,
    ) -> Result<Trained, Failure> {
        let start = Instant::now();
        let mut done = Trained::default();
        'run: for epoch in 0..self.plan.epochs {
            stepper.set_loss((self.loss)(epoch));
            let (epoch_start, mut totals) = (Instant::now(), EpochTotals::default());
            for in_epoch in 0..self.plan.steps(epoch) {
                let step_start = Instant::now();
                let batch = loader.next();
                let data_wait = step_start.elapsed();
                let rate = self.rate.at(epoch, done.steps);
                let (outcome, problem) = self.step(model, stepper, (epoch, in_epoch), batch, rate)?;
                if outcome.failed {
                    return Err(self.common_failure(problem.as_deref())?);
                }
                done.steps += 1;
                done.samples += outcome.samples;
                done.bad_images += outcome.skipped;
                totals.add(&outcome);
                self.record(epoch, &done, &outcome, rate, step_start.elapsed(), data_wait)?;
                self.check(epoch, &done, &outcome)?;
                if self.check_every > 0 && done.steps % self.check_every == 0 {
                    check_agreement(model.trainables(), self.rank, done.steps)?;
                }
                if outcome.stop {
                    done.stopped = self.common_request()?;
                    break 'run;
                }
                if self.max_steps > 0 && done.steps >= self.max_steps {
                    self.close_epoch(epoch, &done, &totals, epoch_start.elapsed())?;
                    break 'run;
                }
            }
            self.close_epoch(epoch, &done, &totals, epoch_start.elapsed())?;
            if epoch + 1 < self.plan.epochs
                && let Some(evaluation) = at_epoch_end(epoch, done.steps, self.reporter)?
            {
                self.append(&Record::Eval(evaluation))?;
            }
        }
        done.elapsed = start.elapsed();
        self.reporter.finish();
        Ok(done)
    }

    /// One step; what stands in this rank's way comes back beside the common outcome.
    fn step(
        &self,
        model: &Model,
        stepper: &mut Stepper<'_>,
        (epoch, in_epoch): (u64, u64),
        batch: Option<Result<Batch, DataError>>,
        rate: f64,
    ) -> Result<(StepOutcome, Option<String>), Failure> {
        let mut notice = Notice { stop: self.rank.signals.requested().is_some(), ..Notice::default() };
        let (batch, problem) = match batch {
            Some(Ok(batch)) => (Some(batch), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, Some("the loader ended before the epoch did".to_owned())),
        };
        for loader::Skipped { path, reason, .. } in batch.iter().flat_map(|batch| &batch.skipped) {
            notice.skipped += 1;
            tracing::warn!("image left out: {path}: {reason}");
        }
        notice.failed = problem.is_some();
        let side = model.vision().shape.resolution;
        let work = self.plan.work(epoch, in_epoch, batch.as_ref(), side, model.device());
        Ok((stepper.step(&work, notice, rate)?, problem))
    }

    fn record(
        &mut self,
        epoch: u64,
        done: &Trained,
        outcome: &StepOutcome,
        learning_rate: f64,
        elapsed: Duration,
        data_wait: Duration,
    ) -> Result<(), Failure> {
        let images_per_second = outcome.samples as f64 / elapsed.as_secs_f64().max(1e-9);
        let record = StepRecord {
            epoch,
            step: done.steps,
            loss: outcome.loss,
            learning_rate,
            samples: outcome.samples,
            images_per_second,
            data_wait: data_wait.as_secs_f64(),
            finite: outcome.finite,
        };
        self.reporter.step(&record);
        self.append(&Record::Step(record))
    }

    fn append(&mut self, record: &Record) -> Result<(), Failure> {
        let Some(metrics) = self.metrics.as_deref_mut() else { return Ok(()) };
        metrics.append(record).map_err(Failure::run)
    }

    /// Ends the run, on all ranks alike, where going on makes no sense.
    fn check(&self, epoch: u64, done: &Trained, outcome: &StepOutcome) -> Result<(), Failure> {
        if !outcome.finite {
            let message = format!(
                "the loss or its gradient is not finite at step {} (epoch {epoch}, loss {}); try a lower train.learning_rate, or train.precision=fp32",
                done.steps, outcome.loss
            );
            return Err(Failure::run(message).on_all_ranks());
        }
        if done.bad_images > self.max_bad_images {
            let message = format!(
                "{} images could not be read, more than data.max_bad_images={} allows; the logs name them",
                done.bad_images, self.max_bad_images
            );
            return Err(Failure::run(message).on_all_ranks());
        }
        Ok(())
    }

    /// What the ranks were asked to do: the greatest wish of any of them.
    fn common_request(&self) -> Result<Option<Request>, Failure> {
        let mut code = [self.rank.signals.requested().map_or(0, |request| i64::from(request.code()))];
        self.rank.control.all_reduce(&mut code, ReduceOp::Max)?;
        Ok(i32::try_from(code[0]).ok().and_then(Request::from_code))
    }

    /// The problem of the first rank that has one, as every rank reports it.
    fn common_failure(&self, problem: Option<&str>) -> Result<Failure, Failure> {
        let agreed = self.rank.control.agree(problem)?;
        let (rank, text) = agreed.unwrap_or((0, "a rank failed without saying why".to_owned()));
        Ok(Failure::run(format!("rank {rank}: {text}")).on_all_ranks())
    }

    fn close_epoch(
        &mut self,
        epoch: u64,
        done: &Trained,
        totals: &EpochTotals,
        elapsed: Duration,
    ) -> Result<(), Failure> {
        let loss = totals.losses / totals.steps.max(1) as f64;
        let seconds = elapsed.as_secs_f64();
        let record = EpochRecord { epoch, step: done.steps, loss, samples: totals.samples, seconds };
        self.reporter.epoch(&record);
        self.append(&Record::Epoch(record))
    }
}

impl EpochTotals {
    fn add(&mut self, outcome: &StepOutcome) {
        if outcome.samples > 0 {
            self.losses += outcome.loss;
            self.steps += 1;
            self.samples += outcome.samples;
        }
    }
}
