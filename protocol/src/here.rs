//! The folder in which a program was started: relative paths, also those of presets and lists, begin there.

use std::io;
use std::path::PathBuf;

/// There is no current folder.
#[derive(Debug, thiserror::Error)]
pub enum NowhereError {
    /// It was removed, perhaps by another node, while a shell was in it.
    #[error(
        "the current folder has been deleted, so no relative path leads anywhere; `cd` to a folder that exists \
        (`cd \"$PWD\"` where it was created again), and give the command again"
    )]
    Deleted,
    /// The system does not say.
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
