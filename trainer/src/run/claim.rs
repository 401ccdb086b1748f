//! The claim of a run to its folder: one process at a time writes there, and it notices when the folder is no longer its
//! own.
//!
//! The folder itself is locked, and the file `run.lock` in it, which names the process. On a local file system the first
//! lock holds also when `run.lock` is removed. NFS locks no folders, and Lustre locks them for one host only: there
//! `run.lock` holds, and is put back when it is removed. Where not even files can be locked, the run that finds another's
//! name in `run.lock` ends.
//!
//! A lock does not keep a folder from being moved away, and another from taking its name. So the claim is looked at before
//! every write ([`Claim::check`]). A run that has lost its folder ends: it neither writes into another's folder nor makes a
//! new one.

use super::RunFolderError;
use protocol::{Timestamp, layout};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// No lock file written by this program is longer.
const LONGEST_HOLDER: u64 = 300;

/// Which folder a path leads to, whatever the path is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderId {
    device: u64,
    inode: u64,
}

/// The right of this process to write a run folder, as long as the value lives; the system takes the locks back when the
/// process ends in whatever way.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// The folder that was claimed, wherever it is by now.
    folder: File,
    /// `run.lock`, open as long as it is locked.
    lock: Mutex<File>,
    /// What `run.lock` says: this process and no other.
    holder: String,
    lost: OnceLock<RunFolderError>,
}

impl FolderId {
    /// Of the folder at `path`.
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
    /// Claims the folder `path`, or says who has it.
    pub fn take(path: &Path) -> Result<Self, RunFolderError> {
        let fail = |operation, error| RunFolderError::io(operation, "the run folder", path, error);
        let folder = File::open(path).map_err(|error| fail("open", error))?;
        if lock(&folder).map_err(|error| fail("lock", error))? == Locking::Taken {
            return Err(taken(path));
        }
        let lock_path = path.join(layout::LOCK);
        let fail = |operation, error| RunFolderError::io(operation, "the lock", &lock_path, error);
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(&lock_path);
        let mut file = file.map_err(|error| fail("create", error))?;
        match lock(&file).map_err(|error| fail("take", error))? {
            Locking::Taken => return Err(taken(path)),
            Locking::Unknown => tracing::warn!(
                "the file system of `{}` knows no locks: make sure that no other job writes this folder",
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
        // Between its creation and the lock the folder can have been replaced.
        claim.check()?;
        Ok(claim)
    }

    /// The folder, by the name under which it was claimed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the folder is still there and this run's; once it is lost it stays lost. To be called before every write.
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

    /// What [`Claim::check`] found, without looking again.
    pub fn lost(&self) -> Option<&RunFolderError> {
        self.lost.get()
    }

    /// Where the run's last word may be written: its folder, also if that was moved; nowhere if another run has it.
    pub fn place_of_last_word(&self) -> Option<PathBuf> {
        match self.check() {
            Ok(()) => Some(self.path.clone()),
            Err(_) => Some(self.held()).filter(|held| name_in(held).is_ok_and(|name| name == self.holder)),
        }
    }

    /// Why the folder is not this run's any more. What the system cannot tell now, the write that follows meets as well.
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
                // What hinders this hinders the write that follows, which says so.
                let _ = self.put_back();
                None
            }
            _ => None,
        }
    }

    /// Somebody removed `run.lock`. If another process is first with a new one, the next look finds its name there.
    fn put_back(&self) -> io::Result<()> {
        let path = self.held().join(layout::LOCK);
        let mut file = match File::options().read(true).write(true).create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            opened => opened?,
        };
        if lock(&file)? == Locking::Taken {
            return Ok(());
        }
        file.write_all(self.holder.as_bytes())?;
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = file;
        tracing::warn!(
            "{} was removed from `{}` and is put back: it keeps other runs out while this one is under way",
            layout::LOCK,
            self.path.display()
        );
        Ok(())
    }

    /// The claimed folder by a name that follows it wherever it is moved.
    fn held(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd()))
    }

    /// Where a folder is now that was moved.
    fn whereabouts(&self) -> Option<PathBuf> {
        let own = FolderId::from(&self.folder.metadata().ok()?);
        let now = fs::read_link(self.held()).ok()?;
        let moved = FolderId::of(&now).is_ok_and(|there| there == own);
        let stayed = FolderId::of(&self.path).is_ok_and(|there| there == own);
        (moved && !stayed).then_some(now)
    }
}

/// How an attempt to lock ended.
#[derive(PartialEq, Eq)]
enum Locking {
    Own,
    Taken,
    /// This file system does not lock files, or not folders. Training must go on there.
    Unknown,
}

fn lock(file: &File) -> io::Result<Locking> {
    match file.try_lock() {
        Ok(()) => Ok(Locking::Own),
        Err(TryLockError::WouldBlock) => Ok(Locking::Taken),
        Err(TryLockError::Error(error)) if knows_no_locks(&error) => Ok(Locking::Unknown),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Some network file systems are mounted without locks. NFS locks for writing only what is open for writing, which no
/// folder is.
fn knows_no_locks(error: &io::Error) -> bool {
    use nix::libc::{EBADF, ENOLCK};
    error.kind() == io::ErrorKind::Unsupported || matches!(error.raw_os_error(), Some(ENOLCK | EBADF))
}

/// What `run.lock` in `folder` says.
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

/// This process, told apart also from one of the same number on another machine of the same name.
fn own_name() -> String {
    let host =
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "an unknown machine".to_owned());
    format!("process {} on {} since {}\n", std::process::id(), host.trim(), Timestamp::now())
}

#[cfg(test)]
mod tests;
