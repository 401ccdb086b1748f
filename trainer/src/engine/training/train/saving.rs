//! Checkpoints from inside the loop.

use super::Training;
use crate::engine::failure::{Failure, agreed};
use crate::engine::training::saver::SaveReason;
use protocol::hint;

impl Training<'_, '_, '_> {
    /// Takes a snapshot, which is written in the background.
    pub fn save(&mut self, reason: SaveReason) -> Result<(), Failure> {
        // The metrics are forced to disk first, which may take longer than a step.
        self.rank.begin("saving");
        let entered = self.rank.activity.enter("checkpoint");
        self.frozen.check(self.model, self.rank, self.progress.steps)?;
        self.saver.save(
            self.model.trainables(),
            self.stepper.momentum(),
            self.progress,
            self.run_log,
            reason,
        )?;
        drop(entered);
        self.rank.begin("training");
        Ok(())
    }

    /// Saves, and returns on every rank once the checkpoint is on disk or has failed.
    pub(super) fn save_and_wait(&mut self) -> Result<(), Failure> {
        self.save(SaveReason::Leaving)?;
        self.rank.begin("saving");
        let _entered = self.rank.activity.enter("checkpoint");
        agreed(&self.rank.control, || self.saver.finish())
    }

    /// Saves before a failure that all ranks know of ends the run: the last step is complete on every rank. Returns the failure, and says in it what was saved.
    pub fn save_before(&mut self, failure: Failure) -> Failure {
        if !failure.common || self.progress.steps == 0 {
            return failure;
        }
        match self.save_and_wait() {
            Ok(()) => Failure {
                message: hint::with_clause(
                    &failure,
                    format_args!(
                        "the {} steps made so far are saved, and `--resume auto` continues from there",
                        self.progress.steps
                    ),
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
}
