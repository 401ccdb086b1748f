//! What a process leaves behind that cannot end in order: a word in `status.json` about how it ended.

use launcher::protocol::{Outcome, Status, StatusError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The folder of the run under way.
static FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);
/// Held by whoever of this process looks at `status.json` and then writes it, so that a last word stays the last.
static PEN: Mutex<()> = Mutex::new(());

/// From now on last words go to this run folder, if one is known.
pub fn leave_in(folder: &Path) {
    *FOLDER.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder.to_owned());
}

/// Whoever looks at `status.json` before writing it holds this meanwhile.
pub fn pen() -> MutexGuard<'static, ()> {
    PEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes how the run ended, after which step (of which epoch) if that is known better than by the last sign of life,
/// unless it had its last word before. Without a run folder there is nothing to write.
pub fn leave(outcome: Outcome, message: &str, at: Option<(u64, u64)>) -> Result<(), StatusError> {
    let folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(folder) = folder else { return Ok(()) };
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
