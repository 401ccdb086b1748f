//! What can go wrong with a run folder and its files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A run folder, or a file in it, that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFolderError {
    /// The system refuses to create, write, read or lock something.
    #[error("cannot {operation} {what} `{}`: {source}{}", path.display(), remedy(source))]
    Io {
        /// `create`, `write`, `read`, ...
        operation: &'static str,
        /// What the file or folder is for.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// The folder holds a run already.
    #[error("`{}` already holds {state} ({}); {remedy}", folder.display(), files.join(", "))]
    Occupied {
        /// The folder.
        folder: PathBuf,
        /// Which run that is.
        state: String,
        /// The run's files that are there.
        files: Vec<&'static str>,
        /// What to do.
        remedy: &'static str,
    },
    /// Another process writes the folder at this moment.
    #[error("`{}` is being written by {holder}; wait for it to end, or choose another --output", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The process, as it named itself.
        holder: String,
    },
    /// The folder was this run's and is not any more.
    #[error(
        "`{}` is no longer the folder of this run: {reason}; the run ends and writes nothing more there{}",
        folder.display(),
        now.as_ref().map_or_else(String::new, |now| format!(
            "; its own folder is `{0}` now, resume it with `--output {0} --resume auto`", now.display()
        ))
    )]
    Lost {
        /// The folder, as it was called.
        folder: PathBuf,
        /// What happened to it.
        reason: String,
        /// Where the run's own folder is, if it was moved.
        now: Option<PathBuf>,
    },
    /// The place for the run is not a folder.
    #[error("`{}` is not a folder; choose another --output", path.display())]
    NotAFolder {
        /// The place.
        path: PathBuf,
    },
    /// No name is left for a run without `--output`.
    #[error("`{}` and its {tries} successors all exist; choose a name with --output", first.display())]
    NamesUsedUp {
        /// The first name.
        first: PathBuf,
        /// How many were tried after it.
        tries: u32,
    },
    /// A file of the run is not what this program writes.
    #[error("{what} `{}`{}: {reason}", path.display(), line.map_or_else(String::new, |line| format!(", line {line}")))]
    Content {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1, where there is one to blame.
        line: Option<usize>,
        /// What is wrong, expected and found.
        reason: String,
    },
}

impl RunFolderError {
    pub(super) fn io(operation: &'static str, what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, what, path: path.to_path_buf(), source: Arc::new(source) }
    }

    /// Whether the run has lost its folder, which ends it: whoever ends it says so, and nobody else has to.
    pub const fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// Whether the user chose the place badly (exit code 2), in contrast to a system that fails under way.
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

/// Whether the system says that this place is not the right one, rather than that it cannot do it now.
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

/// What a person can do about an error of the system, as the end of the sentence.
fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull => "; free some space on that disk or choose another --output",
        Kind::QuotaExceeded => "; free some of your quota there or choose another --output",
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => "; choose an --output that you may write",
        Kind::NotADirectory => "; a part of this path is a file, choose another --output",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_end_with_what_to_do() {
        let told = |code: i32| {
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
            told(28),
            format!(
                "{start}No space left on device (os error 28); free some space on that disk or choose another --output"
            )
        );
        assert_eq!(
            told(13),
            format!("{start}Permission denied (os error 13); choose an --output that you may write")
        );
        assert_eq!(
            told(30),
            format!("{start}Read-only file system (os error 30); choose an --output that you may write")
        );
        assert!(
            told(122).ends_with("(os error 122); free some of your quota there or choose another --output")
        );
        assert_eq!(
            told(20),
            format!(
                "{start}Not a directory (os error 20); a part of this path is a file, choose another --output"
            )
        );
        assert_eq!(told(5), format!("{start}Input/output error (os error 5)"));
    }
}
