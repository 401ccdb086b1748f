//! Images in files below a folder, which all ranks of a host share.
//!
//! A file is complete under its name, because it gets it at the end, and begins with a checksum, because a power loss
//! may empty it. Processes agree on the limit in one locked file, from which each takes a share at a time.

use crate::data::pack::index::checksum;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Images of one folder.
const PER_FOLDER: usize = 1000;

/// The file with the bytes that are taken.
const USED: &str = "used";

/// Limit on the share that a process takes at a time.
const MOST_SHARE: u64 = 64 << 20;

/// Bytes of the checksum.
const CHECKSUM: usize = 8;

pub(super) struct FolderCache {
    folder: PathBuf,
    limit: u64,
    used: Mutex<Share>,
    full: AtomicBool,
    /// Makes the names of unfinished files different.
    next: AtomicU64,
}

/// The bytes that this process may still write.
struct Share {
    file: File,
    left: u64,
}

impl FolderCache {
    pub(super) fn open(folder: &Path, split: &str, limit: u64) -> io::Result<Self> {
        let own = folder.join(split);
        std::fs::create_dir_all(&own)?;
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join(USED))?;
        let used = Mutex::new(Share { file, left: 0 });
        Ok(Self { folder: own, limit, used, full: AtomicBool::new(false), next: AtomicU64::new(0) })
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    fn path(&self, index: usize) -> PathBuf {
        self.folder.join((index / PER_FOLDER).to_string()).join(index.to_string())
    }

    pub(super) fn get(&self, index: usize) -> Option<Vec<u8>> {
        let mut file = File::open(self.path(index)).ok()?;
        let mut sum = [0; CHECKSUM];
        file.read_exact(&mut sum).ok()?;
        let len = file.metadata().ok()?.len().saturating_sub(CHECKSUM as u64);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(usize::try_from(len).ok()?).ok()?;
        file.read_to_end(&mut bytes).ok()?;
        (checksum(&bytes) == u64::from_le_bytes(sum)).then_some(bytes)
    }

    pub(super) fn put(&self, index: usize, bytes: &[u8]) {
        match self
            .has_room(bytes.len() as u64 + CHECKSUM as u64)
            .and_then(|room| if room { self.write(index, bytes).map(|()| true) } else { Ok(false) })
        {
            Ok(true) => {}
            Ok(false) => self.full.store(true, Ordering::Relaxed),
            Err(error) => {
                if !self.full.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "cannot write to the cache `{}`: {error}; no more images are kept",
                        self.folder.display()
                    );
                }
            }
        }
    }

    fn write(&self, index: usize, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(index);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let part = path.with_extension(format!("{}-{number}.part", std::process::id()));
        let written = File::create(&part).and_then(|mut file| {
            file.write_all(&checksum(bytes).to_le_bytes())?;
            file.write_all(bytes)
        });
        let renamed = written.and_then(|()| std::fs::rename(&part, &path));
        if renamed.is_err() {
            // The first error counts.
            let _ = std::fs::remove_file(&part);
        }
        renamed
    }

    /// Takes bytes from the share of this process, and a new share where it is used up.
    fn has_room(&self, len: u64) -> io::Result<bool> {
        let mut share = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if share.left < len {
            let wanted = MOST_SHARE.min(self.limit / 16).max(len);
            share.file.lock()?;
            let taken = self.take_share(&mut share.file, wanted, len);
            let unlocked = share.file.unlock();
            share.left += taken?;
            unlocked?;
        }
        let room = share.left >= len;
        share.left -= if room { len } else { 0 };
        Ok(room)
    }

    /// Adds a share to the bytes that are taken, under the lock; a smaller one if only that is left.
    fn take_share(&self, file: &mut File, wanted: u64, least: u64) -> io::Result<u64> {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_string(&mut text)?;
        let used: u64 = text.trim().parse().unwrap_or(0);
        let share = wanted.min(self.limit.saturating_sub(used));
        if share < least {
            return Ok(0);
        }
        file.seek(SeekFrom::Start(0))?;
        file.write_all(format!("{:020}\n", used + share).as_bytes())?;
        Ok(share)
    }
}
