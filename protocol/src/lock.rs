//! Locks of files and folders, on file systems with and without them.

use std::fs::{File, TryLockError};
use std::io;

/// Result of an attempt to lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// This process holds the lock.
    Own,
    /// Another process holds it.
    Taken,
    /// This file system does not lock files, or not folders. Training must still be possible there.
    Unknown,
}

/// Tries to lock a file or a folder, without waiting. The system releases the lock when `file` is closed.
pub fn try_lock(file: &File) -> io::Result<Locking> {
    match file.try_lock() {
        Ok(()) => Ok(Locking::Own),
        Err(TryLockError::WouldBlock) => Ok(Locking::Taken),
        Err(TryLockError::Error(error)) if knows_no_locks(&error) => Ok(Locking::Unknown),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Some network file systems are mounted without locks. NFS grants a write lock only on a file that is open for
/// writing, which a folder cannot be.
fn knows_no_locks(error: &io::Error) -> bool {
    use nix::libc::{EBADF, ENOLCK};
    error.kind() == io::ErrorKind::Unsupported || matches!(error.raw_os_error(), Some(ENOLCK | EBADF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_holder_at_a_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = File::open(file.path()).unwrap();
        assert_eq!(try_lock(file.as_file()).unwrap(), Locking::Own);
        assert_eq!(try_lock(&other).unwrap(), Locking::Taken);
        drop(file);
        assert_eq!(try_lock(&other).unwrap(), Locking::Own);
    }

    #[test]
    fn systems_that_lock_nothing_are_known() {
        use nix::libc::{EACCES, EBADF, EIO, ENOLCK, ENOSYS, ENOTSUP};
        let known = [ENOLCK, ENOTSUP, ENOSYS, EBADF].map(|code| (code, true));
        for (code, unknown) in known.into_iter().chain([EIO, EACCES].map(|code| (code, false))) {
            assert_eq!(knows_no_locks(&io::Error::from_raw_os_error(code)), unknown, "{code}");
        }
    }
}
