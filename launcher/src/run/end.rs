//! How an attempt ended, judged by the files in the run folder, with the exit code as a hint.

use super::first_failure::{FailedRank, rank_of_message};
use crate::tail::{Sizes, last_lines, logs_of_rank};
use protocol::{Outcome, Status, layout};
use std::path::{Path, PathBuf};

/// Number of lines shown from the log of a failed rank.
const LINES: usize = 15;

/// State of the run folder before an attempt.
#[derive(Debug)]
pub struct Before<'a> {
    run: Option<&'a Path>,
    status: Option<Status>,
    checkpoint: u64,
    logs: Sizes,
}

/// How an attempt ended.
#[derive(Debug)]
pub struct AttemptEnd {
    /// The outcome in `status.json`, or else the one that the exit code suggests.
    pub outcome: Outcome,
    /// Exit code of `mpirun`, `srun` or the only rank; 128 plus the signal number if it was killed.
    pub code: i32,
    /// Steps done over the whole run.
    pub step: u64,
    /// Step of the newest checkpoint before the attempt; 0 if there is none.
    pub found: u64,
    /// Step of the newest checkpoint after the attempt.
    pub left: u64,
    /// The rank that failed first, if standard error names it.
    pub rank: Option<FailedRank>,
    /// The message of the run about its end.
    pub message: Option<String>,
    /// Whether any rank was started.
    pub ranks: bool,
    /// Sizes of the rank logs before the attempt.
    logs: Sizes,
}

impl<'a> Before<'a> {
    /// Reads the run folder, if there is one.
    pub fn of(run: Option<&'a Path>) -> Self {
        let status = run.and_then(|run| Status::read(run).ok());
        Self {
            run,
            status,
            checkpoint: run.map_or(0, newest_checkpoint),
            logs: run.map(Sizes::of).unwrap_or_default(),
        }
    }

    /// Determines how the attempt ended, from the exit code of its command and the rank that failed first.
    pub fn end(self, code: i32, rank: Option<FailedRank>) -> AttemptEnd {
        let now = self.run.and_then(|run| Status::read(run).ok());
        // A status that an earlier attempt wrote does not describe this one.
        let after = now.as_ref().filter(|now| self.status.as_ref() != Some(now));
        let hint = Outcome::from_exit_code(code);
        let outcome = after.map_or(hint, |status| status.outcome.unwrap_or_else(|| unfinished(hint)));
        let left = self.run.map_or(0, newest_checkpoint);
        let step = now.as_ref().map_or(0, |status| status.step).max(left);
        let message = after.and_then(|status| status.explanation());
        AttemptEnd {
            outcome,
            code,
            step,
            found: self.checkpoint,
            left,
            rank,
            message,
            ranks: true,
            logs: self.logs,
        }
    }

    /// The end of an attempt that started no rank.
    pub fn without_ranks(self, outcome: Outcome, message: Option<String>) -> AttemptEnd {
        let code = i32::from(outcome.exit_code());
        AttemptEnd { outcome, message, ranks: false, ..self.end(code, None) }
    }
}

impl AttemptEnd {
    /// The rank that failed first: the one in the message of the run, else the one that standard error names.
    pub fn first_failure(&self) -> Option<usize> {
        let named = self.message.as_deref().and_then(rank_of_message);
        named.or_else(|| self.rank.as_ref().map(|failed| failed.rank))
    }

    /// The last lines that this attempt wrote to the log of the rank that failed first, or of rank 0, and their file.
    pub fn last_log_lines(
        &self,
        streams: Option<&Path>,
        run: Option<&Path>,
    ) -> Option<(PathBuf, Vec<String>)> {
        let log = logs_of_rank(self.first_failure().unwrap_or(0), streams, run).into_iter().next()?;
        let lines = last_lines(&log, self.logs.of_file(&log), LINES).ok()?;
        (!lines.is_empty()).then_some((log, lines))
    }
}

/// The outcome of a run that did not record its end: no exit code makes it a success.
const fn unfinished(hint: Outcome) -> Outcome {
    if matches!(hint, Outcome::Done) { Outcome::Failed } else { hint }
}

/// Step of the newest checkpoint of a run; 0 if there is none.
pub fn newest_checkpoint(run: &Path) -> u64 {
    let names = std::fs::read_dir(run.join(layout::CHECKPOINTS)).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max().unwrap_or(0)
}
