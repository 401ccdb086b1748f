//! Slurm: batch scripts, and jobs submitted with `lift submit`.

pub mod batch;
pub mod cancel;
mod controller;
pub mod job;
pub mod logs;
mod record;
pub mod render;
pub mod status;
pub mod submit;

pub use job::JobOptions;
pub use record::JobRecord;

use protocol::terminal::OutputError;
use protocol::{NowhereError, Outcome};
use std::io;
use std::path::PathBuf;

/// Errors of `lift render`, `submit`, `job`, `status`, `cancel` and `logs`.
#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    /// Options that are invalid or contradict each other.
    #[error("{0}")]
    InvalidArguments(String),
    /// Slurm's programs are not on PATH.
    #[error(
        "cannot start {program}: {source}\nhint: run lift on a login node of the cluster, with Slurm on PATH"
    )]
    NoSlurm {
        /// The program or the operation.
        program: String,
        /// The error of the system.
        source: io::Error,
    },
    /// Slurm refused.
    #[error("{program} refuses: {said}{}", hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default())]
    Refused {
        /// Slurm's program.
        program: String,
        /// Its message.
        said: String,
        /// The hint.
        hint: Option<String>,
    },
    /// A file or folder that cannot be read or written.
    #[error("cannot {operation} `{}`: {source}", path.display())]
    File {
        /// The program or the operation.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// No such job or run.
    #[error(
        "`{0}` is neither a job that `lift submit` submitted from here nor a run folder\nhint: see `lift status`"
    )]
    Unknown(String),
    /// The current folder does not exist.
    #[error(transparent)]
    Nowhere(#[from] NowhereError),
    /// The result cannot be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The trainer does not exist.
    #[error(transparent)]
    Trainer(#[from] crate::run::StartError),
}

impl SlurmError {
    /// The outcome of the command: every error except a failed write to standard output is wrong input.
    pub const fn outcome(&self) -> Outcome {
        if matches!(self, Self::Output(_)) { Outcome::Failed } else { Outcome::WrongInput }
    }
}
