//! Images in the memory of this process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A place for each image, filled at most once.
pub(super) struct MemoryCache {
    images: Vec<OnceLock<Box<[u8]>>>,
    used: AtomicU64,
    limit: u64,
    full: AtomicBool,
}

impl MemoryCache {
    pub(super) fn new(images: usize, limit: u64) -> Self {
        let images = (0..images).map(|_| OnceLock::new()).collect();
        Self { images, used: AtomicU64::new(0), limit, full: AtomicBool::new(false) }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        self.images.get(index)?.get().map(|bytes| &**bytes)
    }

    pub(super) fn put(&self, index: usize, bytes: Vec<u8>) {
        let Some(place) = self.images.get(index) else { return };
        let len = bytes.len() as u64;
        if self.used.fetch_add(len, Ordering::Relaxed) + len > self.limit {
            self.full.store(true, Ordering::Relaxed);
            self.used.fetch_sub(len, Ordering::Relaxed);
        } else if place.set(bytes.into_boxed_slice()).is_err() {
            self.used.fetch_sub(len, Ordering::Relaxed);
        }
    }
}
