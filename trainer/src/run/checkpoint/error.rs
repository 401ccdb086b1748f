//! Errors of checkpoints.

use nix::libc;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Transient errors of cluster file systems: a signal, a restarting server, a client that was disconnected and
/// reconnects.
const TRANSIENT: [i32; 8] = [
    libc::EINTR,
    libc::EAGAIN,
    libc::ESTALE,
    libc::EIO,
    libc::ENOLCK,
    libc::ETIMEDOUT,
    libc::ENOTCONN,
    libc::ESHUTDOWN,
];

/// An error of writing or reading a checkpoint.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// An error of the system.
    #[error("cannot {operation} `{}`: {source}", path.display())]
    Io {
        /// `create`, `write`, `read`, ...
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// The disk, or this user's share of it, is full.
    #[error(
        "no room for checkpoint `{}`: it needs {needed} bytes and {} there ({source})\nhint: free some space or set a \
         smaller checkpoint.keep; older checkpoints are unchanged",
        path.display(), free.map_or_else(|| "the number of free bytes is unknown".into(), |free| format!("{free} are free"))
    )]
    NoRoom {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Bytes of its files.
        needed: u64,
        /// Bytes free on that file system for this user, without the user's quota. None if unknown.
        free: Option<u64>,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// There is no such checkpoint.
    #[error("`{}` does not exist; expected the folder of a checkpoint", path.display())]
    Absent {
        /// The folder.
        path: PathBuf,
    },
    /// A checkpoint, or a part of it, differs from what was written.
    #[error("checkpoint `{}` is damaged: {reason}\nhint: use an older one", path.display())]
    Damaged {
        /// The checkpoint's folder, or the damaged file.
        path: PathBuf,
        /// Expected and found.
        reason: String,
    },
    /// An intact checkpoint of a version with another format or another state.
    #[error(
        "checkpoint `{}` is of another version of this program: {reason}; it is kept\nhint: use that version, or name an older \
         checkpoint with --resume PATH and another --output",
        path.display()
    )]
    Version {
        /// The checkpoint's folder, or the damaged file.
        path: PathBuf,
        /// Expected and found.
        reason: String,
    },
    /// There are checkpoints, but none can be used.
    #[error(
        "none of the {} checkpoints in `{}` can be used: {}",
        skipped.len(), folder.display(),
        skipped.iter().map(|(_, reason)| reason.as_str()).collect::<Vec<_>>().join("; ")
    )]
    NoneUsable {
        /// Their folder.
        folder: PathBuf,
        /// Each with the reason, the newest first.
        skipped: Vec<(PathBuf, String)>,
    },
    /// A snapshot that could not be read back.
    #[error("the snapshot of step {step} cannot be written: {reason}")]
    Snapshot {
        /// Its step.
        step: u64,
        /// What is wrong.
        reason: String,
    },
    /// There is a checkpoint of a later step, which would count as newer than the one to be written.
    #[error(
        "cannot write checkpoint {step} into `{}`: it has one of the later step {newest}\nhint: first discard those after the \
         step to resume from",
        folder.display()
    )]
    OutOfOrder {
        /// Their folder.
        folder: PathBuf,
        /// The step to be written.
        step: u64,
        /// The latest existing step.
        newest: u64,
    },
    /// The thread that writes checkpoints could not be started, or panicked.
    #[error("the thread that writes checkpoints {reason}")]
    Thread {
        /// The reason.
        reason: String,
    },
}

impl CheckpointError {
    pub(super) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_path_buf(), source: Arc::new(source) }
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), reason: reason.into() }
    }

    /// Whether it is an intact checkpoint of another version, which is neither skipped nor removed.
    pub fn is_of_another_version(&self) -> bool {
        matches!(self, Self::Version { .. })
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                source.kind() == io::ErrorKind::TimedOut
                    || source.raw_os_error().is_some_and(|code| TRANSIENT.contains(&code))
            }
            _ => false,
        }
    }

    /// Whether the disk or the user's share of it is full.
    pub fn is_no_room(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}
