//! How a start of the ranks ended: judged by what it left in the run folder, with the exit code as a hint.

use super::first_failure::{FailedRank, rank_of_message};
use crate::tail::{Sizes, last_lines, logs_of_rank};
use protocol::{Outcome, Status, layout};
use std::path::{Path, PathBuf};

/// Lines of a failed rank's log that are shown.
const LINES: usize = 15;

/// What a run folder held before a start.
#[derive(Debug)]
pub struct Before<'a> {
    run: Option<&'a Path>,
    status: Option<Status>,
    checkpoint: u64,
    logs: Sizes,
}

/// How a start of the ranks ended.
#[derive(Debug)]
pub struct AttemptEnd {
    /// What `status.json` says, or what the exit code hints at.
    pub outcome: Outcome,
    /// Exit code of `mpirun`, `srun` or the only rank; 128 and the signal for one that was killed.
    pub code: i32,
    /// Steps of the whole run.
    pub step: u64,
    /// Step of the newest checkpoint before the start; 0 is none.
    pub found: u64,
    /// Step of the newest checkpoint after it.
    pub left: u64,
    /// The rank that failed first, where the stream of errors tells.
    pub rank: Option<FailedRank>,
    /// What the run itself says about its end.
    pub message: Option<String>,
    /// Whether ranks were started at all.
    pub ranks: bool,
    /// Where the logs of ranks ended before the start.
    logs: Sizes,
}

impl<'a> Before<'a> {
    /// Looks at the run folder, if there is one.
    pub fn of(run: Option<&'a Path>) -> Self {
        let status = run.and_then(|run| Status::read(run).ok());
        Self {
            run,
            status,
            checkpoint: run.map_or(0, newest_checkpoint),
            logs: run.map(Sizes::of).unwrap_or_default(),
        }
    }

    /// How the start ended whose command had this exit code, and of whose ranks this one failed first.
    pub fn end(self, code: i32, rank: Option<FailedRank>) -> AttemptEnd {
        let now = self.run.and_then(|run| Status::read(run).ok());
        // What an earlier start wrote says nothing about this one.
        let after = now.as_ref().filter(|now| self.status.as_ref() != Some(now));
        let hint = Outcome::from_exit_code(code);
        let outcome = after.map_or(hint, |status| status.outcome.unwrap_or_else(|| unfinished(hint)));
        let left = self.run.map_or(0, newest_checkpoint);
        let step = now.as_ref().map_or(0, |status| status.step).max(left);
        let message = after.and_then(|status| status.message.clone());
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

    /// How a start ended that started no rank, and why.
    pub fn without_ranks(self, outcome: Outcome, message: Option<String>) -> AttemptEnd {
        let code = i32::from(outcome.exit_code());
        AttemptEnd { outcome, message, ranks: false, ..self.end(code, None) }
    }
}

impl AttemptEnd {
    /// The rank that failed first: the one that the run names, else the one that the stream of errors names.
    pub fn first_failure(&self) -> Option<usize> {
        let named = self.message.as_deref().and_then(rank_of_message);
        named.or_else(|| self.rank.as_ref().map(|failed| failed.rank))
    }

    /// The last lines that this start wrote to the log of the rank that failed first, or of rank 0, and their file.
    pub fn last_words(&self, streams: Option<&Path>, run: Option<&Path>) -> Option<(PathBuf, Vec<String>)> {
        let log = logs_of_rank(self.first_failure().unwrap_or(0), streams, run).into_iter().next()?;
        let lines = last_lines(&log, self.logs.of_file(&log), LINES).ok()?;
        (!lines.is_empty()).then_some((log, lines))
    }
}

/// A run that did not come to say how it ended: no exit code makes that a success.
const fn unfinished(hint: Outcome) -> Outcome {
    if matches!(hint, Outcome::Done) { Outcome::Failed } else { hint }
}

/// Step of the newest checkpoint of a run; 0 without one.
pub fn newest_checkpoint(run: &Path) -> u64 {
    let names = std::fs::read_dir(run.join(layout::CHECKPOINTS)).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max().unwrap_or(0)
}
