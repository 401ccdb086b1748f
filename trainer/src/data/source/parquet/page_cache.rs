//! The pages that were read last. Writers put up to a thousand images into a page, so whoever reads in order needs the
//! same page many times.

use ::parquet::data_type::ByteArray;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Limit on the bytes of the pages that are kept; the newest one is kept whatever its size.
const MOST_BYTES: u64 = 256 << 20;

/// The values of a page by its rows; none for a gap.
pub(super) type PageValues = Result<Vec<Option<ByteArray>>, String>;

/// The row group and the number of a page.
pub(super) type PageKey = (usize, usize);

#[derive(Default)]
pub(super) struct PageCache {
    /// The newest one is the last.
    pages: Mutex<Vec<Kept>>,
}

struct Kept {
    key: PageKey,
    bytes: u64,
    values: Arc<OnceLock<PageValues>>,
}

impl PageCache {
    /// The values of a page of `bytes` bytes; `read` reads them if they are not kept. Others who need the page wait.
    pub(super) fn get(
        &self,
        key: PageKey,
        bytes: u64,
        read: impl FnOnce() -> PageValues,
    ) -> Arc<OnceLock<PageValues>> {
        let values = self.place(key, bytes);
        values.get_or_init(read);
        values
    }

    fn place(&self, key: PageKey, bytes: u64) -> Arc<OnceLock<PageValues>> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = match pages.iter().position(|kept| kept.key == key) {
            Some(at) => pages.remove(at),
            None => Kept { key, bytes, values: Arc::default() },
        };
        let values = Arc::clone(&kept.values);
        pages.push(kept);
        let mut total: u64 = pages.iter().map(|kept| kept.bytes).sum();
        while total > MOST_BYTES && pages.len() > 1 {
            total -= pages.remove(0).bytes;
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_pages_within_the_limit_are_kept() {
        let cache = PageCache::default();
        let mut reads = 0;
        let mut get = |page, bytes| {
            cache.get((0, page), bytes, || {
                reads += 1;
                Ok(vec![None; page])
            })
        };
        let half = MOST_BYTES / 2;
        for page in [1, 2, 1, 2, 3, 1, 3] {
            let values = get(page, half);
            assert_eq!(values.get().map(|values| values.as_ref().map(Vec::len)), Some(Ok(page)));
        }
        get(4, 10 * half);
        get(4, 10 * half);
        assert_eq!(reads, 5, "1, 2, then 3 replaces 1, which replaces 2, then 4");
    }
}
