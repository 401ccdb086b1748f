//! What follows a step or an epoch: comparison of ranks, evaluation, requests to stop, failures of all ranks.

use super::Training;
use crate::engine::failure::Failure;
use crate::engine::step::scalar_row::StepOutcome;
use crate::engine::training::progress::Progress;
use crate::engine::training::replica_check::check_agreement;
use crate::engine::training::saver::SaveReason;
use crate::run::{EvalRecord, Reporter, StopRequest};
use collectives::ReduceOp;
use protocol::Outcome;

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopEnd {
    /// All steps are made.
    Complete,
    /// A rank was asked to stop; everything is saved.
    Stopped(StopRequest),
    /// A step was not finite; the run continues from its last checkpoint.
    Rollback,
}

/// The evaluation after an epoch, by all ranks; `None` if the epoch has none.
pub type AtEpochEnd<'a> =
    dyn FnMut(&mut Progress, &mut Reporter) -> Result<Option<(EvalRecord, Option<f64>)>, Failure> + 'a;

impl Training<'_, '_, '_> {
    /// Compares the ranks, stops and saves, as far as each is due after this step.
    pub(super) fn after_step(&mut self, outcome: &StepOutcome) -> Result<Option<LoopEnd>, Failure> {
        if self.check_every > 0 && self.progress.steps.is_multiple_of(self.check_every) {
            check_agreement(self.model.trainables(), self.rank, self.progress.steps)?;
        }
        if outcome.stop
            && let Some(request) = self.stop()?
        {
            return Ok(Some(LoopEnd::Stopped(request)));
        }
        if outcome.save {
            self.save(SaveReason::Regular)?;
        }
        Ok(None)
    }

    /// Makes the evaluation that is due. If the ranks are asked to stop meanwhile, they save, and it stays due.
    pub(super) fn evaluate(
        &mut self,
        at_epoch_end: &mut AtEpochEnd<'_>,
    ) -> Result<Option<StopRequest>, Failure> {
        match at_epoch_end(self.progress, self.reporter) {
            Ok(None) => self.record_evaluation(None),
            Ok(Some((record, metric))) => {
                self.record_evaluation(Some(record));
                if let Some(metric) = metric {
                    self.save(SaveReason::Evaluated(metric))?;
                }
            }
            Err(failure) if matches!(failure.outcome, Outcome::Preempted | Outcome::Interrupted) => {
                return self.stop();
            }
            Err(failure) => return Err(self.save_before(failure)),
        }
        Ok(None)
    }

    /// Saves after a rank was asked to stop, which all ranks know; returns the strongest request of any rank.
    pub fn stop(&mut self) -> Result<Option<StopRequest>, Failure> {
        self.rank.stopping.acknowledge();
        let request = self.common_request()?;
        if request.is_some() {
            self.save_and_wait()?;
        }
        Ok(request)
    }

    /// The strongest request of any rank.
    fn common_request(&self) -> Result<Option<StopRequest>, Failure> {
        let mut code = [self.rank.stopping.requested().map_or(0, |request| i64::from(request.code()))];
        self.rank.control.all_reduce(&mut code, ReduceOp::Max)?;
        Ok(i32::try_from(code[0]).ok().and_then(StopRequest::from_code))
    }

    /// Whether `train.max_steps` ends the run in the middle of an epoch. An epoch without steps is closed and counted first.
    pub(super) fn is_cut_off(&self) -> bool {
        self.has_all_steps() && self.progress.in_epoch < self.plan.steps(self.progress.epoch)
    }

    /// Whether the run has made `train.max_steps` steps.
    pub(super) fn has_all_steps(&self) -> bool {
        self.max_steps > 0 && self.progress.steps >= self.max_steps
    }

    /// The problem of the first rank that has one, the same on every rank.
    pub(super) fn common_failure(&self, problem: Option<&str>) -> Result<Failure, Failure> {
        let agreed = self.rank.control.agree(problem)?;
        let (rank, text) = agreed.unwrap_or((0, "a rank failed without saying why".to_owned()));
        Ok(Failure::run(format!("rank {rank}: {text}")).on_all_ranks())
    }
}
