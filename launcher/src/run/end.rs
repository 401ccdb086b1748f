//! How a start of the ranks ended.

use super::first_failure::FailedRank;
use protocol::{Outcome, Status, layout};
use std::path::Path;

/// How a start of the ranks ended.
#[derive(Debug)]
pub struct End {
    /// What `status.json` says, or what the exit code hints at.
    pub outcome: Outcome,
    /// Exit code of `mpirun` or of the only rank; 128 and the signal for one that was killed.
    pub code: i32,
    /// Steps of the whole run.
    pub step: u64,
    /// The rank that failed first, where it is known.
    pub rank: Option<FailedRank>,
    /// What the run itself says about its end.
    pub message: Option<String>,
    /// Whether ranks were started at all.
    pub ranks: bool,
}

impl End {
    /// Of a start that started no rank, and why.
    pub fn without_ranks(outcome: Outcome, run: Option<&Path>, message: Option<String>) -> Self {
        let step = run.map_or(0, |run| steps(run, Status::read(run).ok().as_ref()));
        Self { outcome, code: i32::from(outcome.exit_code()), step, rank: None, message, ranks: false }
    }
}

/// Steps done: those of the status, or those of the newest checkpoint, which may be further.
pub fn steps(run: &Path, status: Option<&Status>) -> u64 {
    let names = std::fs::read_dir(run.join(layout::CHECKPOINTS)).into_iter().flatten().flatten();
    let newest = names.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok()).max();
    status.map_or(0, |status| status.step).max(newest.unwrap_or(0))
}
