//! The final status in `status.json` of a process that cannot shut down normally.

use super::FolderId;
use protocol::{Outcome, Status, StatusError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Path and identity of the folder of the current run.
static FOLDER: Mutex<Option<(PathBuf, FolderId)>> = Mutex::new(None);
/// Lock for reading and then writing `status.json` in this process, so that a final status is not overwritten.
static STATUS_LOCK: Mutex<()> = Mutex::new(());

/// Sets the run folder for final statuses; on a host that does not see the folder, none are written.
pub fn set_folder(folder: &Path) {
    let known = FolderId::of(folder).ok().map(|id| (folder.to_owned(), id));
    *FOLDER.lock().unwrap_or_else(PoisonError::into_inner) = known;
}

/// Hold this lock while reading and then writing `status.json`.
pub fn lock() -> MutexGuard<'static, ()> {
    STATUS_LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the outcome of the run, unless a final status exists already, with the last step and its epoch if they are
/// newer than those of the last heartbeat. Without a run folder, writes nothing.
pub fn write(outcome: Outcome, message: &str, at: Option<(u64, u64)>) -> Result<(), StatusError> {
    let folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some((folder, id)) = folder else { return Ok(()) };
    if FolderId::of(&folder).ok() != Some(id) {
        // The folder was moved, and its old path may belong to another run.
        return Ok(());
    }
    let _lock = lock();
    let mut status = Status::read(&folder)?;
    if status.outcome.is_some() {
        return Ok(());
    }
    if let Some(at) = at {
        (status.epoch, status.step) = at;
    }
    status.end(outcome, Some(message.to_owned()));
    status.write(&folder)
}
