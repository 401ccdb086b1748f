//! Blocks of memory in use and free ones, by address and by size.

use memmap2::MmapMut;
use std::collections::BTreeMap;
use std::ptr::NonNull;

/// Sizes are multiples of this, so that tensors of nearly the same size use the same blocks.
const GRAIN: usize = 64 << 10;
/// What is free is at most `1 / SLACK` of the most that was in use, when a new block is made.
const SLACK: usize = 8;

/// All blocks. Each is a mapping of its own, so that it can go back to the system alone.
#[derive(Debug)]
pub(super) struct Pool {
    /// By address.
    used: BTreeMap<usize, MmapMut>,
    /// By size and by the time of their return.
    free: BTreeMap<(usize, u64), MmapMut>,
    used_bytes: usize,
    free_bytes: usize,
    /// The most that was in use.
    peak: usize,
    returns: u64,
}

impl Pool {
    pub(super) const fn new() -> Self {
        Self {
            used: BTreeMap::new(),
            free: BTreeMap::new(),
            used_bytes: 0,
            free_bytes: 0,
            peak: 0,
            returns: 0,
        }
    }

    /// A block of at least this size, with arbitrary content. None if the system refuses one.
    pub(super) fn take(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let size = bytes.checked_next_multiple_of(GRAIN)?;
        let mut block = match self.reused(size) {
            Some(block) => block,
            None => self.new_block(size)?,
        };
        self.used_bytes += block.len();
        self.peak = self.peak.max(self.used_bytes);
        let place = NonNull::new(block.as_mut_ptr())?;
        self.used.insert(place.addr().get(), block);
        Some(place)
    }

    /// Takes a block back; false if the address is not of one in use.
    pub(super) fn give(&mut self, address: usize) -> bool {
        let Some(block) = self.used.remove(&address) else { return false };
        self.used_bytes -= block.len();
        self.free_bytes += block.len();
        self.returns += 1;
        self.free.insert((block.len(), self.returns), block);
        true
    }

    /// The smallest free block that is large enough, unless another one may be made and this one is much larger.
    fn reused(&mut self, size: usize) -> Option<MmapMut> {
        let found = self.fitting(size)?;
        let block = self.free.remove(&found)?;
        self.free_bytes -= block.len();
        Some(block)
    }

    /// Bytes of the blocks in use.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    fn fitting(&self, size: usize) -> Option<(usize, u64)> {
        let spare = if self.has_room(size) { size / SLACK } else { size };
        let largest = size.saturating_add(spare);
        self.free.range((size, 0)..=(largest, u64::MAX)).next().map(|(found, _)| *found)
    }

    /// Whether a new block keeps what is free within its limit.
    fn has_room(&self, size: usize) -> bool {
        let used = self.used_bytes.saturating_add(size);
        let most_used = self.peak.max(used);
        used.saturating_add(self.free_bytes) <= most_used.saturating_add(most_used / SLACK)
    }

    fn new_block(&mut self, size: usize) -> Option<MmapMut> {
        self.release(|pool| pool.has_room(size));
        MmapMut::map_anon(size).ok().or_else(|| {
            self.release(|_| false);
            MmapMut::map_anon(size).ok()
        })
    }

    /// Gives free blocks back to the system, the longest unused ones first, until there are few enough.
    fn release(&mut self, few_enough: impl Fn(&Self) -> bool) {
        while !few_enough(self) {
            let Some(&oldest) = self.free.keys().min_by_key(|(_, returned)| *returned) else { return };
            self.free.remove(&oldest);
            self.free_bytes -= oldest.0;
        }
    }

    #[cfg(test)]
    pub(super) fn holds(&self, address: usize) -> bool {
        self.used.contains_key(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_block_is_reused_for_about_its_size() {
        let mut pool = Pool::new();
        let megabyte = 1 << 20;
        let place = pool.take(megabyte).unwrap();
        assert!(pool.give(place.addr().get()));
        assert!(!pool.give(place.addr().get()), "it is not in use any more");
        assert_eq!(pool.take(megabyte - megabyte / 10), Some(place));
        assert!(pool.give(place.addr().get()));
        assert_ne!(pool.take(megabyte / 4), Some(place));
        assert_ne!(pool.take(megabyte + 1), Some(place));
    }

    #[test]
    fn a_request_without_end_is_refused() {
        let mut pool = Pool::new();
        let place = pool.take(1 << 20).unwrap();
        assert!(pool.give(place.addr().get()));
        assert_eq!(pool.take(usize::MAX), None);
        assert_eq!(pool.take(1 << 60), None);
        assert_eq!((pool.used_bytes, pool.free_bytes), (0, 0), "all that was free went back");
    }

    proptest! {
        #[test]
        fn blocks_never_overlap_and_little_is_kept(
            requests in prop::collection::vec((any::<bool>(), 1_usize..40, any::<prop::sample::Index>()), 1..200)
        ) {
            let mut pool = Pool::new();
            let mut used: Vec<(usize, usize)> = Vec::new();
            for (takes, size, index) in requests {
                if takes || used.is_empty() {
                    let bytes = size * 100_000;
                    let most_before = pool.peak;
                    let missed = pool.fitting(bytes.next_multiple_of(GRAIN)).is_none();
                    let place = pool.take(bytes).unwrap().addr().get();
                    for &(other, length) in &used {
                        prop_assert!(place + bytes <= other || other + length <= place);
                    }
                    used.push((place, bytes));
                    let most = most_before.max(pool.used_bytes);
                    prop_assert!(!missed || pool.used_bytes + pool.free_bytes <= most + most / SLACK);
                } else {
                    let (place, _) = used.swap_remove(index.index(used.len()));
                    prop_assert!(pool.give(place));
                }
            }
            let bytes: usize = pool.free.values().map(|block| block.len()).sum();
            prop_assert_eq!(bytes, pool.free_bytes);
        }
    }
}
