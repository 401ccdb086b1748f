//! Failures of a run.

use crate::engine::panics;
use crate::run::checkpoint::CheckpointError;
use crate::run::{RunFolderError, StopRequest};
use collectives::{CollectiveError, Control};
use protocol::Outcome;
use std::fmt::Display;

/// The error message with its remedy, and the outcome of the process.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Decides the exit code.
    pub outcome: Outcome,
    /// The thing, expected, found, and the remedy.
    pub message: String,
    /// Whether every rank ends with this failure. Otherwise the others still wait for this rank, and only an abort of
    /// the job frees them.
    pub common: bool,
}

impl Failure {
    /// Wrong input or configuration, found before training.
    pub fn input(error: impl Display) -> Self {
        Self { outcome: Outcome::WrongInput, message: error.to_string(), common: false }
    }

    /// A failure of the run itself.
    pub fn run(error: impl Display) -> Self {
        Self { outcome: Outcome::Failed, message: panics::explain(error.to_string()), common: false }
    }

    /// An error of the run folder: an unsuitable destination, or a failure of the system that may be temporary.
    pub fn of_folder(error: RunFolderError) -> Self {
        if error.is_wrong_input() { Self::input(error) } else { Self::run(error) }
    }

    /// The same for a checkpoint.
    pub fn of_checkpoint(error: CheckpointError) -> Self {
        let passes = error.is_transient() || error.is_no_room();
        if passes { Self::run(error) } else { Self::input(error) }
    }

    /// A request to stop, received where no result can be returned.
    pub fn stopped(request: StopRequest) -> Self {
        Self { outcome: request.outcome(), message: format!("stopped on request ({request})"), common: false }
    }

    /// The same failure, marked as common to all ranks.
    #[must_use]
    pub fn on_all_ranks(self) -> Self {
        Self { common: true, ..self }
    }

    fn encode(&self) -> String {
        format!("{} {}", self.outcome.exit_code(), self.message)
    }

    /// The failure of some rank, as all ranks report it.
    fn decode(control: &Control, rank: usize, text: &str) -> Self {
        let (code, message) = text.split_once(' ').unwrap_or(("", text));
        let outcome = Outcome::from_exit_code(code.parse().unwrap_or(1));
        let on = if control.size() > 1 && rank != 0 { format!("rank {rank}: ") } else { String::new() };
        Self { outcome, message: format!("{on}{message}"), common: true }
    }
}

impl From<CollectiveError> for Failure {
    fn from(error: CollectiveError) -> Self {
        Self::run(error)
    }
}

/// Runs `work` on every rank, and turns a failure on one into a failure on all (law 4).
///
/// `work` makes no collective calls of its own.
pub fn agreed<T>(control: &Control, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let result = work();
    let problem = result.as_ref().err().map(Failure::encode);
    match control.agree(problem.as_deref())? {
        None => result,
        Some((rank, text)) => Err(Failure::decode(control, rank, &text)),
    }
}
