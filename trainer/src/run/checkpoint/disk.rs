//! All calls of this module to the file system, so that faults can be injected in one place.

use super::CheckpointError;
#[cfg(any(test, feature = "faults"))]
use super::faults::{Faults, Planted};
use crate::run::Claim;
use nix::libc;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// Largest size of one write, so that a signal or a fault can occur inside a large file too.
const MOST_AT_ONCE: usize = 4 << 20;

/// The file system.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// The claim to the run folder, checked before every change.
    claim: Option<Arc<Claim>>,
    #[cfg(any(test, feature = "faults"))]
    faults: Arc<Faults>,
}

impl Disk {
    /// The unmodified file system; with the feature `faults`, with the faults that the environment requests.
    pub(super) fn new() -> Self {
        Self {
            claim: None,
            #[cfg(any(test, feature = "faults"))]
            faults: Faults::of_environment(),
        }
    }

    /// The same, under this claim.
    pub(super) fn of(claim: Arc<Claim>) -> Self {
        let mut disk = Self::new();
        disk.claim = Some(claim);
        disk
    }

    #[cfg(test)]
    pub(super) fn with(faults: Faults) -> Self {
        Self { claim: None, faults: Arc::new(faults) }
    }

    #[cfg(test)]
    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Whether to plant a bug, for a harness that has to find it. Never in an ordinary build.
    #[cfg(any(test, feature = "faults"))]
    pub(super) fn plays(&self, bug: Planted) -> bool {
        self.faults.plays(bug)
    }

    pub(super) fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.change("mkdir", || fs::create_dir(path))
    }

    pub(super) fn create_file(&self, path: &Path) -> io::Result<File> {
        self.change("create", || File::options().write(true).create_new(true).open(path))
    }

    pub(super) fn write(&self, file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let part = &bytes[..bytes.len().min(MOST_AT_ONCE)];
            match self.write_once(file, part) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn sync_file(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.is_lazy() {
            return Ok(());
        }
        self.call("fsync", || file.sync_all())
    }

    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.is_lazy() {
            return Ok(());
        }
        self.call("fsync", || protocol::sync_folder(path))
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("rename", || fs::rename(from, to))
    }

    /// Names of the entries of a folder, in no order.
    pub(super) fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.call("list", || {
            fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
        })
    }

    /// Opens a regular file and returns its length. Refuses links, pipes and devices instead of following them or
    /// blocking.
    pub(super) fn open(&self, path: &Path) -> io::Result<(File, u64)> {
        self.call("open", || {
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let file = File::options().read(true).custom_flags(flags).open(path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            Ok((file, metadata.len()))
        })
    }

    pub(super) fn read(&self, file: &mut File, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.call("read", || file.read(into)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    /// Bytes that are free there for this user.
    pub(super) fn free(path: &Path) -> io::Result<u64> {
        let answer = nix::sys::statvfs::statvfs(path)?;
        Ok(answer.blocks_available().saturating_mul(answer.fragment_size()))
    }

    /// Writes a new file from `parts` and forces it to disk.
    pub(super) fn write_file<'a>(
        &self,
        path: &Path,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> io::Result<()> {
        let mut file = self.create_file(path)?;
        for part in parts {
            self.write(&mut file, part)?;
        }
        self.sync_file(&file)
    }

    /// Removes a file, or a folder with its content, without following links.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        if !fs::symlink_metadata(path)?.is_dir() {
            return self.change("unlink", || fs::remove_file(path));
        }
        for name in self.names(path)? {
            self.remove(&path.join(name))?;
        }
        self.change("rmdir", || fs::remove_dir(path))
    }

    /// A call that changes a folder, made only while the claim is valid.
    fn change<T>(&self, name: &'static str, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.claim.as_ref().map_or(Ok(()), |claim| claim.check()).map_err(io::Error::other)?;
        self.call(name, call)
    }

    #[cfg(any(test, feature = "faults"))]
    fn call<T>(&self, name: &'static str, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.faults.call(name, call)
    }

    #[cfg(not(any(test, feature = "faults")))]
    #[expect(clippy::unused_self, reason = "faults are injected through it")]
    fn call<T>(&self, _: &'static str, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        call()
    }

    #[cfg(any(test, feature = "faults"))]
    fn write_once(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        self.faults.write(file, bytes)
    }

    #[cfg(not(any(test, feature = "faults")))]
    #[expect(clippy::unused_self, reason = "faults are injected through it")]
    fn write_once(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(file, bytes)
    }
}

/// Turns a result of the system into an error that names the operation and the path.
pub(super) trait IoContext<T> {
    fn told(self, operation: &'static str, path: &Path) -> Result<T, CheckpointError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn told(self, operation: &'static str, path: &Path) -> Result<T, CheckpointError> {
        self.map_err(|error| CheckpointError::io(operation, path, error))
    }
}
