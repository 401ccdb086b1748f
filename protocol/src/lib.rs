//! The interface between the launcher `lift` and the trainer `lift-trainer`, so that either can be read, tested and
//! replaced without the other.
//!
//! The launcher only starts processes, waits, and reads files. Exit codes are hints, because a scheduler or `mpirun`
//! may replace them; the outcome of a run is in its `status.json`.
//!
//! ```
//! use protocol::{Outcome, Phase, Status};
//!
//! let run = tempfile::tempdir()?;
//! // The trainer writes its status ...
//! let mut status = Status::starting(2);
//! status.end(Outcome::Preempted, None);
//! status.write(run.path())?;
//! // ... and the launcher reads it: this run can be resumed.
//! let read = Status::read(run.path())?;
//! assert_eq!((read.phase, read.outcome), (Phase::Preempted, Some(Outcome::Preempted)));
//! assert_eq!(Outcome::Preempted.exit_code(), 75);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`Status`], [`Outcome`]: the state of a run, how it ended, and its exit code;
//! - [`layout`]: the names inside a run folder; [`environment`]: the names of environment variables;
//! - [`command_line`]: the part of the trainer's command line that both parse;
//! - [`shell`]: completions and man pages from a command line;
//! - [`arguments`]: the launcher's view of that command line;
//! - [`gpus`]: what files and variables tell about GPUs;
//! - [`evaluation`]: confusion, calibration and mistakes of the last evaluation;
//! - [`memory`]: memory that this machine and the job's limit leave;
//! - [`numbers`]: numbers and bytes as text;
//! - [`terminal`]: output to standard output and standard error;
//! - [`lock`]: locks of files and folders; [`probe`]: what the trainer reports to `lift doctor`;
//! - [`orphan`]: a rank exits when its parent process is gone.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod arguments;
mod atomic;
pub mod command_line;
pub mod environment;
pub mod evaluation;
pub mod gpus;
mod here;
pub mod hint;
pub mod layout;
pub mod lock;
pub mod memory;
pub mod numbers;
pub mod orphan;
mod outcome;
pub mod probe;
pub mod shell;
mod status;
pub mod terminal;
mod timestamp;

pub use atomic::{sync_folder, write_atomically, write_quickly};
pub use here::{NowhereError, current_folder};
pub use outcome::Outcome;
pub use status::{Phase, Status, StatusError};
pub use timestamp::{Timestamp, TimestampError};
