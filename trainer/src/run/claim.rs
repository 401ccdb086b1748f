//! The claim of a run to its folder: one process at a time writes there, and it detects when it has lost the folder.
//!
//! Both the folder and the file `run.lock` in it, which names the process, are locked. On a local file system the lock
//! of the folder is effective even if `run.lock` is removed. NFS cannot lock folders, and Lustre locks them for one
//! host only: there the lock of `run.lock` is effective, and the file is restored if it is removed. If not even files
//! can be locked, a run that finds the name of another in `run.lock` ends.
//!
//! A lock does not prevent that the folder is moved and that another one takes its name. The claim is therefore checked
//! before every write ([`Claim::check`]). A run that has lost its folder ends: it neither writes into the folder of
//! another run nor creates a new one.

use super::RunFolderError;
use protocol::lock::{Locking, try_lock};
use protocol::{Timestamp, layout};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Longest lock file that this program writes.
const LONGEST_HOLDER: u64 = 300;

/// Identity of a folder, independent of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderId {
    device: u64,
    inode: u64,
}

/// Exclusive right of this process to write a run folder, for the lifetime of the value. The system releases the locks
/// when the process ends.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// The claimed folder, even if it was moved.
    folder: File,
    /// `run.lock`, kept open to hold its lock.
    lock: Mutex<File>,
    /// Content of `run.lock`, which identifies this process.
    holder: String,
    lost: OnceLock<RunFolderError>,
}

impl FolderId {
    /// Identity of the folder at `path`.
    pub fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|folder| Self::from(&folder))
    }
}

impl From<&fs::Metadata> for FolderId {
    fn from(folder: &fs::Metadata) -> Self {
        Self { device: folder.dev(), inode: folder.ino() }
    }
}

impl Claim {
    /// Claims the folder `path`, or returns an error that names its holder.
    pub fn take(path: &Path) -> Result<Self, RunFolderError> {
        let fail = |operation, error| RunFolderError::io(operation, "the run folder", path, error);
        let folder = File::open(path).map_err(|error| fail("open", error))?;
        if try_lock(&folder).map_err(|error| fail("lock", error))? == Locking::Taken {
            return Err(taken(path));
        }
        let lock_path = path.join(layout::LOCK);
        let fail = |operation, error| RunFolderError::io(operation, "the lock", &lock_path, error);
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(&lock_path);
        let mut file = file.map_err(|error| fail("create", error))?;
        match try_lock(&file).map_err(|error| fail("take", error))? {
            Locking::Taken => return Err(taken(path)),
            Locking::Unknown => tracing::warn!(
                "the file system of `{}` does not support locks\nhint: make sure that no other job writes this folder",
                path.display()
            ),
            Locking::Own => {}
        }
        let holder = own_name();
        file.set_len(0)
            .and_then(|()| file.write_all(holder.as_bytes()))
            .map_err(|error| fail("write", error))?;
        let claim =
            Self { path: path.to_path_buf(), folder, lock: Mutex::new(file), holder, lost: OnceLock::new() };
        // The folder may have been replaced between its creation and the lock.
        claim.check()?;
        Ok(claim)
    }

    /// Path under which the folder was claimed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the folder still exists and belongs to this run; a lost claim stays lost. Call it before every
    /// write.
    pub fn check(&self) -> Result<(), RunFolderError> {
        if let Some(lost) = self.lost() {
            return Err(lost.clone());
        }
        let Some(reason) = self.find_fault() else { return Ok(()) };
        let folder = self.path.clone();
        Err(self
            .lost
            .get_or_init(|| RunFolderError::Lost { folder, reason, now: self.whereabouts() })
            .clone())
    }

    /// The last result of [`Claim::check`], without another check.
    pub fn lost(&self) -> Option<&RunFolderError> {
        self.lost.get()
    }

    /// The folder for the final status: the claimed folder, even if it was moved; none if another run has claimed it.
    pub fn place_of_last_word(&self) -> Option<PathBuf> {
        match self.check() {
            Ok(()) => Some(self.path.clone()),
            Err(_) => Some(self.held()).filter(|held| name_in(held).is_ok_and(|name| name == self.holder)),
        }
    }

    /// Why the claim is lost. If the system returns an error here, the write that follows reports it.
    fn find_fault(&self) -> Option<String> {
        match FolderId::of(&self.path) {
            Ok(there) if self.folder.metadata().is_ok_and(|own| there != FolderId::from(&own)) => {
                return Some("another folder has taken its place".to_owned());
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Some("it was moved or removed".to_owned());
            }
            _ => {}
        }
        match name_in(&self.held()) {
            Ok(name) if !name.is_empty() && name != self.holder => {
                Some(format!("{} has taken it over", name.trim_end().escape_debug()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The write that follows encounters and reports the same error.
                let _ = self.put_back();
                None
            }
            _ => None,
        }
    }

    /// Restores a removed `run.lock`. If another process creates it first, the next check finds that process's name.
    fn put_back(&self) -> io::Result<()> {
        let path = self.held().join(layout::LOCK);
        let mut file = match File::options().read(true).write(true).create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            opened => opened?,
        };
        if try_lock(&file)? == Locking::Taken {
            return Ok(());
        }
        file.write_all(self.holder.as_bytes())?;
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = file;
        tracing::warn!(
            "{} was removed from `{}` and is restored: it keeps other runs out of the folder",
            layout::LOCK,
            self.path.display()
        );
        Ok(())
    }

    /// A path of the claimed folder that stays valid if the folder is moved.
    fn held(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd()))
    }

    /// Current path of a moved folder.
    fn whereabouts(&self) -> Option<PathBuf> {
        let own = FolderId::from(&self.folder.metadata().ok()?);
        let now = fs::read_link(self.held()).ok()?;
        let moved = FolderId::of(&now).is_ok_and(|there| there == own);
        let stayed = FolderId::of(&self.path).is_ok_and(|there| there == own);
        (moved && !stayed).then_some(now)
    }
}

/// Content of `run.lock` in `folder`.
fn name_in(folder: &Path) -> io::Result<String> {
    let mut name = Vec::new();
    File::open(folder.join(layout::LOCK))?.take(LONGEST_HOLDER).read_to_end(&mut name)?;
    Ok(String::from_utf8_lossy(&name).into_owned())
}

fn taken(folder: &Path) -> RunFolderError {
    let name = name_in(folder).unwrap_or_default();
    let name = name.trim_end().escape_debug().to_string();
    let holder = if name.is_empty() { "another process".to_owned() } else { name };
    RunFolderError::Locked { folder: folder.to_path_buf(), holder }
}

/// Identifies this process, also against one with the same PID on another machine with the same name.
fn own_name() -> String {
    let host =
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "an unknown machine".to_owned());
    format!("process {} on {} since {}\n", std::process::id(), host.trim(), Timestamp::now())
}

#[cfg(test)]
mod tests;
