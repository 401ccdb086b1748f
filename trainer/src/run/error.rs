//! Errors of a run folder and its files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An error of a run folder or of a file in it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFolderError {
    /// The system cannot create, write, read or lock a file or folder.
    #[error("cannot {operation} {what} `{}`: {source}{}", path.display(), remedy(source))]
    Io {
        /// `create`, `write`, `read`, ...
        operation: &'static str,
        /// Purpose of the file or folder.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// The folder already contains a run.
    #[error("`{}` already holds {state} ({})\nhint: {remedy}", folder.display(), files.join(", "))]
    Occupied {
        /// The folder.
        folder: PathBuf,
        /// Description of that run.
        state: String,
        /// Files of that run.
        files: Vec<&'static str>,
        /// The remedy.
        remedy: &'static str,
    },
    /// Another process is writing the folder.
    #[error("`{}` is being written by {holder}\nhint: wait for it to end, or choose another --output", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The process, as it wrote itself into the lock file.
        holder: String,
    },
    /// The run has lost its folder.
    #[error(
        "`{}` is no longer the folder of this run: {reason}; the run ends and writes nothing more there{}",
        folder.display(),
        now.as_ref().map_or_else(String::new, |now| format!(
            "; its own folder is `{0}` now\nhint: resume it with `--output {0} --resume auto`", now.display()
        ))
    )]
    Lost {
        /// Original path of the folder.
        folder: PathBuf,
        /// Reason of the loss.
        reason: String,
        /// Current path of the folder, if it was moved.
        now: Option<PathBuf>,
    },
    /// The destination of the run is not a folder.
    #[error("`{}` is not a folder\nhint: choose another --output", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// No name is free for a run without `--output`.
    #[error("`{}` and the next {tries} names exist\nhint: choose a name with --output", first.display())]
    NamesUsedUp {
        /// The first name.
        first: PathBuf,
        /// Number of names that were tried after it.
        tries: u32,
    },
    /// A file of the run has invalid content.
    #[error("{what} `{}`{}: {reason}", path.display(), line.map_or_else(String::new, |line| format!(", line {line}")))]
    Content {
        /// Purpose of the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The line of the error, counted from 1, if there is one.
        line: Option<usize>,
        /// What was expected and found.
        reason: String,
    },
}

impl RunFolderError {
    pub(super) fn io(operation: &'static str, what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, what, path: path.to_path_buf(), source: Arc::new(source) }
    }

    /// Whether the run has lost its folder, which ends the run. The code that ends it reports this; other code need
    /// not.
    pub const fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// Whether the user chose an unsuitable destination (exit code 2), in contrast to a failure of the system.
    pub fn is_wrong_input(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_of_the_place(source),
            Self::Occupied { .. }
            | Self::Locked { .. }
            | Self::NotAFolder { .. }
            | Self::NamesUsedUp { .. } => true,
            Self::Content { .. } | Self::Lost { .. } => false,
        }
    }
}

/// Whether the error of the system means that the destination is unsuitable, rather than a temporary failure.
fn is_of_the_place(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::NotFound
            | Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::AlreadyExists
            | Kind::InvalidInput
            | Kind::InvalidFilename
            | Kind::Unsupported
    )
}

/// Remedy for an error of the system, as the end of the sentence.
fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull => "\nhint: free some space on that disk or choose another --output",
        Kind::QuotaExceeded => "\nhint: free some of your quota there or choose another --output",
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => "\nhint: choose an --output that you may write",
        Kind::NotADirectory => "; a part of this path is a file\nhint: choose another --output",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_end_with_what_to_do() {
        let text = |code: i32| {
            RunFolderError::io(
                "write",
                "the metrics",
                Path::new("runs/a/metrics.jsonl"),
                io::Error::from_raw_os_error(code),
            )
            .to_string()
        };
        let start = "cannot write the metrics `runs/a/metrics.jsonl`: ";
        assert_eq!(
            text(28),
            format!(
                "{start}No space left on device (os error 28)\nhint: free some space on that disk or choose another --output"
            )
        );
        assert_eq!(
            text(13),
            format!("{start}Permission denied (os error 13)\nhint: choose an --output that you may write")
        );
        assert_eq!(
            text(30),
            format!(
                "{start}Read-only file system (os error 30)\nhint: choose an --output that you may write"
            )
        );
        assert!(
            text(122)
                .ends_with("(os error 122)\nhint: free some of your quota there or choose another --output")
        );
        assert_eq!(
            text(20),
            format!(
                "{start}Not a directory (os error 20); a part of this path is a file\nhint: choose another --output"
            )
        );
        assert_eq!(text(5), format!("{start}Input/output error (os error 5)"));
    }
}
