//! Which image each worker is reading, so that a read which does not end is reported by name.

use crate::data::source::Split;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A read that takes longer is reported while its batch is waited for.
const SLOW: Duration = Duration::from_secs(5);

/// The present reads of all workers.
pub(super) struct Reading(Vec<Mutex<Option<Read>>>);

struct Read {
    sample: usize,
    since: Instant,
    reported: bool,
}

impl Reading {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Mutex::new(None)).collect())
    }

    /// A worker begins to read a sample, or with none is done.
    pub(super) fn set(&self, worker: usize, sample: Option<usize>) {
        if let Some(slot) = self.0.get(worker) {
            let read = sample.map(|sample| Read { sample, since: Instant::now(), reported: false });
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = read;
        }
    }

    /// Names reads that have become slow, each once.
    pub(super) fn report_slow(&self, split: &Split) {
        for sample in self.newly_slow(SLOW) {
            tracing::warn!(
                "image `{}` has been read for more than {} s: its file system does not answer, or is very slow",
                split.name(sample),
                SLOW.as_secs()
            );
        }
    }

    fn newly_slow(&self, limit: Duration) -> Vec<usize> {
        let slow = |slot: &Mutex<Option<Read>>| {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            let read = slot.as_mut().filter(|read| !read.reported && read.since.elapsed() >= limit)?;
            read.reported = true;
            Some(read.sample)
        };
        self.0.iter().filter_map(slow).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_read_is_named_once() {
        let reading = Reading::new(3);
        reading.set(0, Some(7));
        reading.set(1, Some(8));
        reading.set(1, None);
        assert_eq!(reading.newly_slow(Duration::from_mins(1)), [0usize; 0]);
        assert_eq!(reading.newly_slow(Duration::ZERO), [7]);
        assert_eq!(reading.newly_slow(Duration::ZERO), [0usize; 0]);
        reading.set(0, Some(9));
        assert_eq!(reading.newly_slow(Duration::ZERO), [9]);
    }
}
