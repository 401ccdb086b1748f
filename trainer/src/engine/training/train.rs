//! Training: one visible loop.

use crate::config::NonFinite;
use crate::data::loader::{Batch, Loader};
use crate::engine::eval::bad_images::{BadImage, BadImageLimit, ImageSet};
use crate::engine::failure::Failure;
use crate::engine::rank::Rank;
use crate::engine::step::batch_plan::BatchPlan;
use crate::engine::step::schedule::LearningRate;
use crate::engine::step::stepper::{StepFlags, StepOutcome, Stepper};
use crate::engine::training::contention::Contention;
use crate::engine::training::frozen::FrozenWeights;
use crate::engine::training::progress::{EpochTotals, Progress};
use crate::engine::training::replica_check::check_agreement;
use crate::engine::training::run_log::RunLog;
use crate::engine::training::saving::{SaveReason, Saver};
use crate::model::Model;
use crate::model::losses::Loss;
use crate::run::{EpochRecord, EvalRecord, MetricsRecord, Reporter, StepRecord, StopRequest};
use collectives::ReduceOp;
use collectives::liveness::StepClock;
use protocol::Outcome;
use std::time::{Duration, Instant};

/// What the loop needs beside the model.
pub struct Training<'a, 'b> {
    /// This process.
    pub rank: &'a Rank,
    /// Steps and slices.
    pub plan: BatchPlan,
    /// Learning rates.
    pub rate: LearningRate,
    /// Steps after which to stop; 0 for none.
    pub max_steps: u64,
    /// Steps between two comparisons of the trained tensors over ranks; 0 for none.
    pub check_every: u64,
    /// How many images the run may leave out.
    pub limit: BadImageLimit,
    /// What a step does that is not finite, and how many such steps a run may have.
    pub non_finite: (NonFinite, u64),
    /// What the frozen weights were at the start.
    pub frozen: &'a FrozenWeights,
    /// The objective of an epoch.
    pub loss: &'a dyn Fn(u64) -> Box<dyn Loss>,
    /// Checkpoints.
    pub saver: &'a mut Saver<'b>,
    /// Rank 0's files.
    pub recorder: &'a mut RunLog,
    /// Rank 0's terminal.
    pub reporter: &'a mut Reporter,
    /// How long a step may take before the rank counts as stuck.
    pub clock: StepClock,
    /// Whether this rank has its cores for itself.
    pub contention: Contention,
}

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopEnd {
    /// Every step is made.
    Complete,
    /// Some rank was asked to stop; everything is saved.
    Stopped(StopRequest),
    /// A step was not finite, and the run goes back to its last checkpoint.
    Rollback,
}

/// An evaluation after an epoch, by all ranks; nothing where none is wanted.
pub type AtEpochEnd<'a> =
    dyn FnMut(&mut Progress, &mut Reporter) -> Result<Option<(EvalRecord, Option<f64>)>, Failure> + 'a;

/// A step under way.
struct StepUnderWay {
    outcome: StepOutcome,
    rate: f64,
    elapsed: Duration,
    data_wait: Duration,
    bytes: u64,
}

impl Training<'_, '_> {
    /// Trains from `progress` to the end, or to the step at which a rank was asked to stop or could not go on.
    pub fn run(
        &mut self,
        model: &Model,
        stepper: &mut Stepper<'_>,
        mut loader: Loader,
        progress: &mut Progress,
        at_epoch_end: &mut AtEpochEnd<'_>,
    ) -> Result<LoopEnd, Failure> {
        while progress.epoch < self.plan.epochs && !self.is_cut_off(progress) {
            if progress.evaluation_due
                && let Some(request) = self.evaluate(model, stepper, progress, at_epoch_end)?
            {
                return Ok(LoopEnd::Stopped(request));
            }
            stepper.set_loss((self.loss)(progress.epoch));
            while progress.in_epoch < self.plan.steps(progress.epoch) && !self.has_all_steps(progress) {
                if let Some(end) = self.step(model, stepper, &mut loader, progress)? {
                    return Ok(end);
                }
            }
            if !self.is_cut_off(progress) {
                self.close_epoch(progress);
            }
        }
        Ok(LoopEnd::Complete)
    }

    /// Whether all steps are made and the epoch has more. One that has none is closed and counted first.
    fn is_cut_off(&self, progress: &Progress) -> bool {
        self.has_all_steps(progress) && progress.in_epoch < self.plan.steps(progress.epoch)
    }

    fn has_all_steps(&self, progress: &Progress) -> bool {
        self.max_steps > 0 && progress.steps >= self.max_steps
    }

    /// One step, and what follows from it; the end of the loop, if that is one.
    fn step(
        &mut self,
        model: &Model,
        stepper: &mut Stepper<'_>,
        loader: &mut Loader,
        progress: &mut Progress,
    ) -> Result<Option<LoopEnd>, Failure> {
        let start = Instant::now();
        let bytes = self.rank.activity.now().0.bytes;
        let batch = {
            let _entered = self.rank.activity.enter("waiting for images");
            loader.next()
        };
        let data_wait = start.elapsed();
        let (batch, problem) = match batch {
            Some(Ok(batch)) => (Some(batch), self.saver.problem()),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, Some("the loader ended before the epoch did".to_owned())),
        };
        let skipped = batch.as_ref().map_or(&[][..], |batch| &batch.skipped);
        let bad = progress.left_out_images.news(ImageSet::Training, skipped);
        let notice = self.notice(progress, &bad, problem.is_some());
        let (epoch, in_epoch) = (progress.epoch, progress.in_epoch);
        let work = self.plan.work(
            (epoch, in_epoch),
            batch.as_ref().filter(|_| problem.is_none()),
            model.tower().shape().resolution,
            model.device(),
        );
        let rate = self.rate.at(epoch, self.plan.steps_before(epoch) + in_epoch);
        let apply = !progress.left_out.contains(&(progress.steps + 1));
        let entered = self.rank.activity.enter("step");
        let outcome = stepper.gradient(&work, notice)?;
        if outcome.failed {
            return Err(self.common_failure(problem.as_deref())?);
        }
        if outcome.bad_images > 0
            && let Err(failure) = progress.left_out_images.meet(&bad, self.limit, self.rank)
        {
            return Err(self.keep(model, stepper, progress, failure));
        }
        if apply && outcome.finite {
            self.saver.begin_change();
            stepper.update(&outcome, rate);
        }
        drop(entered);
        let bytes = self.rank.activity.now().0.bytes - bytes;
        let made = StepUnderWay { outcome, rate, elapsed: start.elapsed(), data_wait, bytes };
        if !outcome.finite && apply && self.meet_non_finite(progress, &made, batch.as_ref())? {
            return Ok(Some(LoopEnd::Rollback));
        }
        self.advance(progress, &made);
        self.follow_up(model, stepper, progress, &outcome)
    }

    fn notice(&self, progress: &Progress, bad: &[BadImage], failed: bool) -> StepFlags {
        let stop = self.rank.stopping.requested().is_some();
        let save = self.saver.is_due_after(progress.steps + 1);
        StepFlags { bad_images: bad.len() as u64, failed, stop, save }
    }

    /// Counts a step and writes its line.
    fn advance(&mut self, progress: &mut Progress, made: &StepUnderWay) {
        self.saver.begin_change();
        let StepUnderWay { outcome, rate, elapsed, data_wait, bytes } = made;
        let seconds = elapsed.as_secs_f64();
        progress.steps += 1;
        progress.in_epoch += 1;
        progress.of_epoch = self.plan.steps(progress.epoch);
        progress.samples += outcome.samples;
        progress.seconds += seconds;
        progress.totals.seconds += seconds;
        if outcome.samples > 0 && outcome.finite {
            progress.totals.add(outcome.loss, outcome.samples);
        }
        self.rank.activity.set_step(progress.steps);
        self.rank.step_took(*elapsed, &mut self.clock);
        if let Some(problem) = self.contention.report(self.rank.threads) {
            tracing::warn!("{problem}");
        }
        let record = StepRecord {
            epoch: progress.epoch,
            step: progress.steps,
            loss: outcome.loss,
            learning_rate: *rate,
            samples: outcome.samples,
            images_per_second: outcome.samples as f64 / seconds.max(1e-9),
            data_wait: data_wait.as_secs_f64(),
            finite: outcome.finite && !progress.left_out.contains(&progress.steps),
            bytes: *bytes,
        };
        self.reporter.step(&record);
        self.recorder.append(&MetricsRecord::Step(record));
        self.recorder.step(progress.epoch, progress.steps);
        self.saver.end_change(progress);
    }

    /// What comes after a step: comparison of ranks, checkpoint, the wish to stop.
    fn follow_up(
        &mut self,
        model: &Model,
        stepper: &Stepper<'_>,
        progress: &Progress,
        outcome: &StepOutcome,
    ) -> Result<Option<LoopEnd>, Failure> {
        if self.check_every > 0 && progress.steps.is_multiple_of(self.check_every) {
            check_agreement(model.trainables(), self.rank, progress.steps)?;
        }
        if outcome.stop
            && let Some(request) = self.stop(model, stepper, progress)?
        {
            return Ok(Some(LoopEnd::Stopped(request)));
        }
        if outcome.save {
            self.save(model, stepper, progress, SaveReason::Regular)?;
        }
        Ok(None)
    }

    /// A step whose loss or gradient is not finite changed nothing. Who was at fault is told, and the policy followed:
    /// gives whether the run goes back to its last checkpoint, rather than on without the step.
    fn meet_non_finite(
        &mut self,
        progress: &mut Progress,
        made: &StepUnderWay,
        batch: Option<&Batch>,
    ) -> Result<bool, Failure> {
        let (policy, most) = self.non_finite;
        let step = progress.steps + 1;
        let what = format!(
            "the loss or its gradient is not finite at step {step} (epoch {}, loss {}): {}",
            progress.epoch,
            made.outcome.loss,
            self.blame(&made.outcome, batch)?
        );
        progress.non_finite += 1;
        if policy == NonFinite::Stop {
            let remedy = "try a lower train.learning_rate or train.precision=fp32, or set train.non_finite";
            self.advance(progress, made);
            return Err(Failure::run(format!("{what}; {remedy}")).on_all_ranks());
        }
        if progress.non_finite > most {
            self.advance(progress, made);
            let message = format!("{what}; more than train.max_non_finite={most} such steps");
            return Err(Failure::run(message).on_all_ranks());
        }
        if policy == NonFinite::Rollback {
            tracing::warn!("{what}; going back to the last checkpoint");
            progress.left_out.insert(step);
            return Ok(true);
        }
        tracing::warn!("{what}; the step is left out");
        Ok(false)
    }

    /// Ranks whose own loss is not finite, with some of their samples; all ranks together.
    fn blame(&self, outcome: &StepOutcome, batch: Option<&Batch>) -> Result<String, Failure> {
        const MOST_SAMPLES: usize = 8;
        let samples = batch.map_or(&[][..], |batch| &batch.samples);
        let shown: Vec<String> = samples.iter().take(MOST_SAMPLES).map(u64::to_string).collect();
        let more = if samples.len() > MOST_SAMPLES { ", ..." } else { "" };
        let own = if outcome.own_finite { String::new() } else { format!("{}{more}", shown.join(", ")) };
        let all = self.rank.control.all_gather(own.as_bytes())?;
        let blamed: Vec<String> = all
            .iter()
            .enumerate()
            .filter(|(_, samples)| !samples.is_empty())
            .map(|(rank, samples)| format!("rank {rank}, samples {}", String::from_utf8_lossy(samples)))
            .collect();
        Ok(if blamed.is_empty() {
            "every rank's loss is finite, their gradient is not".to_owned()
        } else {
            blamed.join("; ")
        })
    }

    /// The evaluation that is due. If the ranks are asked to stop meanwhile, they save, and it is due on resume.
    fn evaluate(
        &mut self,
        model: &Model,
        stepper: &Stepper<'_>,
        progress: &mut Progress,
        at_epoch_end: &mut AtEpochEnd<'_>,
    ) -> Result<Option<StopRequest>, Failure> {
        match at_epoch_end(progress, self.reporter) {
            Ok(None) => self.evaluated(progress, None),
            Ok(Some((record, metric))) => {
                self.evaluated(progress, Some(record));
                if let Some(metric) = metric {
                    self.save(model, stepper, progress, SaveReason::Evaluated(metric))?;
                }
            }
            Err(failure) if matches!(failure.outcome, Outcome::Preempted | Outcome::Interrupted) => {
                return self.stop(model, stepper, progress);
            }
            Err(failure) => return Err(self.keep(model, stepper, progress, failure)),
        }
        Ok(None)
    }

    /// The evaluation that was due is made, or was not wanted.
    fn evaluated(&mut self, progress: &mut Progress, record: Option<EvalRecord>) {
        self.saver.begin_change();
        progress.evaluation_due = false;
        if let Some(record) = record {
            self.recorder.append(&MetricsRecord::Eval(record));
        }
        self.saver.end_change(progress);
    }

    /// All ranks know that one of them was asked to stop: they save, and learn what was asked.
    pub fn stop(
        &mut self,
        model: &Model,
        stepper: &Stepper<'_>,
        progress: &Progress,
    ) -> Result<Option<StopRequest>, Failure> {
        self.rank.stopping.heed();
        let request = self.common_request()?;
        if request.is_some() {
            self.save_and_wait(model, stepper, progress)?;
        }
        Ok(request)
    }

    /// Takes a snapshot, which is written in the background.
    pub fn save(
        &mut self,
        model: &Model,
        stepper: &Stepper<'_>,
        progress: &Progress,
        occasion: SaveReason,
    ) -> Result<(), Failure> {
        // The metrics are forced to disk first, which may take longer than a step.
        self.rank.begin("saving");
        let entered = self.rank.activity.enter("checkpoint");
        self.frozen.check(model, self.rank, progress.steps)?;
        self.saver.save(model.trainables(), stepper.momentum(), progress, self.recorder, occasion)?;
        drop(entered);
        self.rank.begin("training");
        Ok(())
    }

    /// Saves, and returns on every rank when it is on disk or could not be.
    fn save_and_wait(
        &mut self,
        model: &Model,
        stepper: &Stepper<'_>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        self.save(model, stepper, progress, SaveReason::Leaving)?;
        self.rank.begin("saving");
        let _entered = self.rank.activity.enter("checkpoint");
        crate::engine::failure::agreed(&self.rank.control, || self.saver.finish())
    }

    /// Saves what is trained before a failure ends the run, where all ranks know of it; the failure, with a word on that.
    pub fn keep(
        &mut self,
        model: &Model,
        stepper: &Stepper<'_>,
        progress: &Progress,
        failure: Failure,
    ) -> Failure {
        if !failure.common || progress.steps == 0 {
            return failure;
        }
        match self.save_and_wait(model, stepper, progress) {
            Ok(()) => Failure {
                message: format!(
                    "{failure}; the {} steps made so far are saved, and `--resume auto` continues from there",
                    progress.steps
                ),
                ..failure
            },
            Err(error) if error.common => {
                tracing::warn!("what was trained could not be saved: {error}");
                failure
            }
            Err(error) => error,
        }
    }

    /// What the ranks were asked to do: the greatest wish of any of them.
    fn common_request(&self) -> Result<Option<StopRequest>, Failure> {
        let mut code = [self.rank.stopping.requested().map_or(0, |request| i64::from(request.code()))];
        self.rank.control.all_reduce(&mut code, ReduceOp::Max)?;
        Ok(i32::try_from(code[0]).ok().and_then(StopRequest::from_code))
    }

    /// The problem of the first rank that has one, as every rank reports it.
    fn common_failure(&self, problem: Option<&str>) -> Result<Failure, Failure> {
        let agreed = self.rank.control.agree(problem)?;
        let (rank, text) = agreed.unwrap_or((0, "a rank failed without saying why".to_owned()));
        Ok(Failure::run(format!("rank {rank}: {text}")).on_all_ranks())
    }

    /// Tells of an epoch; at the end of the run also of one that was cut off, which `progress` still is in.
    pub fn tell_epoch(&mut self, progress: &Progress) {
        let EpochTotals { samples, seconds, .. } = progress.totals;
        let (epoch, step, loss) = (progress.epoch, progress.steps, progress.totals.mean_loss());
        let record = EpochRecord { epoch, step, loss, samples, seconds };
        self.reporter.epoch(&record);
        self.recorder.append(&MetricsRecord::Epoch(record));
    }

    fn close_epoch(&mut self, progress: &mut Progress) {
        self.saver.begin_change();
        self.tell_epoch(progress);
        progress.totals = EpochTotals::default();
        progress.epoch += 1;
        progress.in_epoch = 0;
        progress.evaluation_due = true;
        self.saver.end_change(progress);
    }
}
