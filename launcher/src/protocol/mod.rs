//! What launcher and trainer say to each other: exit codes, `status.json`, the names inside a run folder and the
//! names of environment variables.
//!
//! The launcher never sees the trainer's memory; it starts processes, waits, and reads files. So everything both
//! sides must spell alike is here and nowhere else. Exit codes are hints (a killing scheduler or `mpirun` may
//! replace them); the outcome of a run is what its `status.json` says.

mod atomic;
pub mod environment;
mod here;
pub mod layout;
pub mod orphan;
mod outcome;
mod status;
mod timestamp;

pub use atomic::{sync_folder, write_atomically, write_quickly};
pub use here::{NowhereError, current_folder};
pub use outcome::Outcome;
pub use status::{Phase, Status, StatusError};
pub use timestamp::{Timestamp, TimestampError};
