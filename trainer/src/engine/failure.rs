//! How a run ends that does not end well.

use collectives::{CollectiveError, Control};
use launcher::protocol::ExitCode;
use std::fmt::Display;

/// One sentence for the person, a remedy where there is one, and the exit code.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the process ends with.
    pub code: ExitCode,
    /// The thing, what was expected, what was found.
    pub message: String,
}

impl Failure {
    /// Wrong input or configuration, found before training.
    pub fn input(error: impl Display) -> Self {
        Self { code: ExitCode::WrongInput, message: error.to_string() }
    }

    /// A failure of the run itself.
    pub fn run(error: impl Display) -> Self {
        Self { code: ExitCode::Failed, message: error.to_string() }
    }
}

impl From<CollectiveError> for Failure {
    fn from(error: CollectiveError) -> Self {
        Self::run(error)
    }
}

/// Runs a part of the work on every rank, and makes a failure on one a failure on all (law 4).
///
/// `work` makes no collective calls of its own.
pub fn agreed<T>(control: &Control, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let result = work();
    let problem = result.as_ref().err().map(|failure| format!("{} {}", failure.code as u8, failure.message));
    match control.agree(problem.as_deref())? {
        None => result,
        Some((rank, text)) => Err(received(control, rank, &text)),
    }
}

/// The failure of another rank, as all ranks report it.
fn received(control: &Control, rank: usize, text: &str) -> Failure {
    let (code, message) = text.split_once(' ').unwrap_or(("1", text));
    let code = if code == "2" { ExitCode::WrongInput } else { ExitCode::Failed };
    let on = if control.size() > 1 && rank != 0 { format!("rank {rank}: ") } else { String::new() };
    Failure { code, message: format!("{on}{message}") }
}
