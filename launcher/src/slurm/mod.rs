//! Slurm: batch scripts, and the jobs that `lift submit` sent.

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

/// What `lift render`, `submit`, `job`, `status`, `cancel` and `logs` refuse or cannot do.
#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    /// A job that makes no sense.
    #[error("{0}")]
    Nonsense(String),
    /// Slurm's programs are not here.
    #[error("cannot start {program}: {source}; call lift on a login node of the cluster, with Slurm on PATH")]
    NoSlurm {
        /// What was tried.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// Slurm refused.
    #[error("{program} refuses: {said}{}", hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default())]
    Refused {
        /// Which of its programs.
        program: String,
        /// What it says.
        said: String,
        /// What to check.
        hint: Option<String>,
    },
    /// A file or folder that cannot be read or written.
    #[error("cannot {operation} `{}`: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No such job or run.
    #[error("`{0}` is neither a job that `lift submit` sent from here nor a run folder; see `lift status`")]
    Unknown(String),
    /// There is no current folder.
    #[error(transparent)]
    Nowhere(#[from] NowhereError),
    /// What was asked for cannot be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// There is no trainer.
    #[error(transparent)]
    Trainer(#[from] crate::run::StartError),
}

impl SlurmError {
    /// How the process ends: all but a full standard output is wrong input.
    pub const fn outcome(&self) -> Outcome {
        if matches!(self, Self::Output(_)) { Outcome::Failed } else { Outcome::WrongInput }
    }
}
