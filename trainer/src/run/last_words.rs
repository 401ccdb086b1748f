//! What a process leaves behind that cannot end in order: a word in `status.json` about how it ended.

use super::FolderId;
use protocol::{Outcome, Status, StatusError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The folder of the run under way, and which folder that is.
static FOLDER: Mutex<Option<(PathBuf, FolderId)>> = Mutex::new(None);
/// Held by whoever of this process looks at `status.json` and then writes it, so that a last word stays the last.
static PEN: Mutex<()> = Mutex::new(());

/// From now on last words go to this run folder: nowhere on a host that does not see it.
pub fn leave_in(folder: &Path) {
    let known = FolderId::of(folder).ok().map(|id| (folder.to_owned(), id));
    *FOLDER.lock().unwrap_or_else(PoisonError::into_inner) = known;
}

/// Whoever looks at `status.json` before writing it holds this meanwhile.
pub fn pen() -> MutexGuard<'static, ()> {
    PEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes how the run ended, after which step (of which epoch) if that is known better than by the last sign of life,
/// unless it had its last word before. Without a run folder there is nothing to write.
pub fn leave(outcome: Outcome, message: &str, at: Option<(u64, u64)>) -> Result<(), StatusError> {
    let folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some((folder, id)) = folder else { return Ok(()) };
    if FolderId::of(&folder).ok() != Some(id) {
        // It was moved, and its name may be another run's by now.
        return Ok(());
    }
    let _pen = pen();
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
