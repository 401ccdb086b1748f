//! The current folder: all relative paths, also those in presets and lists, are resolved from it.

use std::io;
use std::path::PathBuf;

/// The current folder cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum NowhereError {
    /// It was removed, perhaps by another node, while the shell was in it.
    #[error(
        "the current folder has been deleted, so no relative path leads anywhere\nhint: `cd` to a folder that exists \
        (`cd \"$PWD\"` where it was created again), and give the command again"
    )]
    Deleted,
    /// The system call failed.
    #[error("cannot find the current folder: {0}")]
    Unknown(io::Error),
}

/// The current folder.
pub fn current_folder() -> Result<PathBuf, NowhereError> {
    std::env::current_dir().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NowhereError::Deleted,
        _ => NowhereError::Unknown(error),
    })
}
