//! Steps whose loss or gradient is not finite.

use super::Training;
use super::records::FinishedStep;
use crate::config::NonFinite;
use crate::data::loader::Batch;
use crate::engine::failure::Failure;
use crate::engine::step::scalar_row::StepOutcome;
use tch::Kind;

impl Training<'_, '_, '_> {
    /// Applies `train.non_finite` to a step that was not finite, which changed nothing. Returns whether the run continues
    /// from its last checkpoint; otherwise it continues without the step.
    pub(super) fn is_rolled_back(
        &mut self,
        finished: &FinishedStep,
        batch: Option<&Batch>,
    ) -> Result<bool, Failure> {
        let (policy, most) = self.non_finite;
        let step = self.progress.steps + 1;
        let what = format!(
            "the loss or its gradient is not finite at step {step} (epoch {}, loss {}): {}",
            self.progress.epoch,
            finished.outcome.loss,
            self.blame(&finished.outcome, batch)?
        );
        self.progress.non_finite += 1;
        if policy == NonFinite::Stop {
            let remedy = "try a lower train.learning_rate or train.precision=fp32, or set train.non_finite";
            self.record(finished);
            return Err(Failure::run(format!("{what}\nhint: {remedy}")).on_all_ranks());
        }
        if self.progress.non_finite > most {
            self.record(finished);
            let message = format!("{what}; more than train.max_non_finite={most} such steps");
            return Err(Failure::run(message).on_all_ranks());
        }
        if policy == NonFinite::Rollback {
            tracing::warn!("{what}; going back to the last checkpoint");
            self.progress.skipped_steps.insert(step);
            return Ok(true);
        }
        tracing::warn!("{what}; the step is left out");
        Ok(false)
    }

    /// Whether the loss of a step is multiplied, because its gradients are in fp16.
    pub(super) fn scales_the_loss(&self) -> bool {
        self.model.precision().compute == Kind::Half
    }

    /// Whether the gradient left the range of fp16 where a smaller factor on the loss can keep it: the step is dropped, the factor
    /// halved.
    pub(super) fn overflowed(&self, outcome: &StepOutcome) -> bool {
        let from_range = !outcome.finite && outcome.loss.is_finite();
        self.scales_the_loss() && from_range && self.progress.loss_scale.can_shrink()
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
}
