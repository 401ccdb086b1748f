//! Images that were read once are kept, in the memory of the process or in a folder that the ranks of a host share.
//!
//! Every epoch reads every image once, so to replace kept images by newer ones would gain nothing: the first images are
//! kept until the limit is reached, and they stay.

mod folder;
mod memory;
#[cfg(test)]
mod tests;

use super::DataSet;
use folder::FolderCache;
use memory::MemoryCache;
use std::io;
use std::path::{Path, PathBuf};

/// Where images are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// In the memory of each process.
    Memory,
    /// In files below a folder.
    Folder(PathBuf),
}

/// The images of one split that were read.
pub struct Cache(Kept);

enum Kept {
    Memory(MemoryCache),
    Folder(FolderCache),
}

impl Cache {
    /// Keeps up to `limit` bytes of `images` images in memory.
    pub fn in_memory(images: usize, limit: u64) -> Self {
        Self(Kept::Memory(MemoryCache::new(images, limit)))
    }

    /// Keeps up to `limit` bytes of all splits that share `folder` in files. `split` names the split.
    pub fn in_folder(folder: &Path, split: &str, limit: u64) -> io::Result<Self> {
        FolderCache::open(folder, split, limit).map(|folder| Self(Kept::Folder(folder)))
    }

    /// Passes the kept bytes of an image to `take`; returns false if there are none.
    pub(super) fn get(&self, index: usize, take: &mut dyn FnMut(&[u8])) -> bool {
        match &self.0 {
            Kept::Memory(memory) => memory.get(index).map(take).is_some(),
            Kept::Folder(folder) => folder.get(index).map(|bytes| take(&bytes)).is_some(),
        }
    }

    /// Keeps the bytes of an image if there is room.
    pub(super) fn put(&self, index: usize, bytes: impl FnOnce() -> Vec<u8>) {
        match &self.0 {
            Kept::Memory(memory) if !memory.is_full() => memory.put(index, bytes()),
            Kept::Folder(folder) if !folder.is_full() => folder.put(index, &bytes()),
            _ => {}
        }
    }
}

impl DataSet {
    /// Keeps the images of both splits at a place. `limit` is in bytes: of each process in memory, of all ranks of a host
    /// in a folder. A folder keeps each data set apart, by its names, labels and a sample of its contents.
    pub fn cached(self, place: &CachePlace, limit: u64) -> io::Result<Self> {
        let (train, test) = match place {
            CachePlace::Memory => {
                let (train, test) = (self.train.len() as u64, self.test.len() as u64);
                let own = |images: u64| {
                    (u128::from(limit) * u128::from(images) / u128::from(train + test).max(1)) as u64
                };
                (Cache::in_memory(self.train.len(), own(train)), Cache::in_memory(self.test.len(), own(test)))
            }
            CachePlace::Folder(folder) => {
                let folder = folder.join(self.identity());
                (Cache::in_folder(&folder, "train", limit)?, Cache::in_folder(&folder, "test", limit)?)
            }
        };
        let (train, test) = (self.train.cached(train), self.test.cached(test));
        Ok(Self { train, test, ..self })
    }
}
