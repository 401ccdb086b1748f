//! The image that each worker is reading, so that a blocked read is reported with its image.

use crate::data::source::Split;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Duration after which a read is reported while its batch is waited for.
const SLOW: Duration = Duration::from_secs(5);

/// The current reads of all workers.
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

    /// Records that a worker begins to read a sample, or with `None` that it is done.
    pub(super) fn set(&self, worker: usize, sample: Option<usize>) {
        if let Some(slot) = self.0.get(worker) {
            let read = sample.map(|sample| Read { sample, since: Instant::now(), reported: false });
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = read;
        }
    }

    /// Reports slow reads, each once.
    pub(super) fn report_slow(&self, split: &Split) {
        for sample in self.newly_slow(SLOW) {
            tracing::warn!(
                "image `{}` has been read for more than {} s: its file system does not respond or is very slow",
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
