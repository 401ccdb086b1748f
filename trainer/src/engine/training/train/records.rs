//! What a step, an epoch and an evaluation leave behind: progress, metrics, status and a line on the terminal.

use super::Training;
use crate::data::loader::WaitReasons;
use crate::engine::step::scalar_row::StepOutcome;
use crate::engine::training::progress::EpochTotals;
use crate::run::{EpochRecord, EvalRecord, MetricsRecord, StepRecord, WaitSeconds};
use std::time::Duration;

/// A step whose gradient is reduced and applied.
pub(super) struct FinishedStep {
    pub outcome: StepOutcome,
    pub rate: f64,
    pub elapsed: Duration,
    pub data_wait: Duration,
    pub wait: WaitReasons,
    /// Bytes that this rank sent.
    pub bytes: u64,
}

impl Training<'_, '_, '_> {
    /// Counts a step and writes its line of metrics.
    pub(super) fn record(&mut self, step: &FinishedStep) {
        self.saver.begin_change();
        let FinishedStep { outcome, rate, elapsed, data_wait, wait, bytes } = step;
        let seconds = elapsed.as_secs_f64();
        if self.scales_the_loss() {
            self.progress.loss_scale = self.progress.loss_scale.after(self.overflowed(outcome));
        }
        self.progress.steps += 1;
        self.progress.in_epoch += 1;
        self.progress.of_epoch = self.plan.steps(self.progress.epoch);
        self.progress.samples += outcome.samples;
        self.progress.seconds += seconds;
        self.progress.totals.seconds += seconds;
        if outcome.samples > 0 && outcome.finite {
            self.progress.totals.add(outcome.loss, outcome.samples);
        }
        self.rank.activity.set_step(self.progress.steps);
        self.rank.step_took(*elapsed, &mut self.clock);
        if let Some(problem) = self.contention.report(self.rank.threads) {
            tracing::warn!("{problem}");
        }
        let record = StepRecord {
            epoch: self.progress.epoch,
            step: self.progress.steps,
            loss: outcome.loss,
            learning_rate: *rate,
            samples: outcome.samples,
            images_per_second: outcome.samples as f64 / seconds.max(1e-9),
            data_wait: data_wait.as_secs_f64(),
            wait: WaitSeconds { read: wait.read, decode: wait.decode, queue: wait.queue },
            finite: outcome.finite && !self.progress.skipped_steps.contains(&self.progress.steps),
            bytes: *bytes,
        };
        self.reporter.step(&record);
        self.run_log.append(&MetricsRecord::Step(record));
        self.run_log.step(self.progress.epoch, self.progress.steps);
        self.saver.end_change(self.progress);
    }

    /// Writes the line of an epoch; at the end of a run also for an epoch that is not complete.
    pub fn record_epoch(&mut self) {
        let EpochTotals { samples, seconds, .. } = self.progress.totals;
        let (epoch, step, loss) =
            (self.progress.epoch, self.progress.steps, self.progress.totals.mean_loss());
        let record = EpochRecord { epoch, step, loss, samples, seconds };
        self.reporter.epoch(&record);
        self.run_log.append(&MetricsRecord::Epoch(record));
    }

    /// Records an epoch and begins the next one.
    pub(super) fn close_epoch(&mut self) {
        self.saver.begin_change();
        self.record_epoch();
        self.progress.totals = EpochTotals::default();
        self.progress.epoch += 1;
        self.progress.in_epoch = 0;
        self.progress.evaluation_due = true;
        self.saver.end_change(self.progress);
    }

    /// Records an evaluation; `None` if the epoch has none.
    pub(super) fn record_evaluation(&mut self, record: Option<EvalRecord>) {
        self.saver.begin_change();
        self.progress.evaluation_due = false;
        if let Some(record) = record {
            self.run_log.append(&MetricsRecord::Eval(record));
        }
        self.saver.end_change(self.progress);
    }
}
