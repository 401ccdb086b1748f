//! What the workers do while a batch is waited for.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for work.
    Idle,
    /// Waits for the bytes of an image.
    Read,
    /// Decodes and resizes.
    Decode,
}

/// The current stages of all workers.
#[derive(Debug)]
pub(super) struct Stages(Vec<AtomicU8>);

impl Stages {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicU8::new(Stage::Idle as u8)).collect())
    }

    pub(super) fn set(&self, worker: usize, stage: Stage) {
        if let Some(slot) = self.0.get(worker) {
            slot.store(stage as u8, Ordering::Relaxed);
        }
    }

    /// Number of workers that read, decode and are idle.
    fn count(&self) -> [u32; 3] {
        let mut counts = [0; 3];
        for stage in &self.0 {
            let stage = stage.load(Ordering::Relaxed);
            counts[if stage == Stage::Read as u8 {
                0
            } else if stage == Stage::Decode as u8 {
                1
            } else {
                2
            }] += 1;
        }
        counts
    }
}

/// The seconds for which a batch was waited for, by what the workers did meanwhile. They looked busy or idle at several
/// moments of the wait, and the wait is divided in the proportion of what was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WaitReasons {
    /// Waiting for the bytes of images: the storage is slow.
    pub read: f64,
    /// Decoding and resizing: more cores, `data.decode`, or smaller images would help.
    pub decode: f64,
    /// Without work: the last images of the batch are being prepared by others, or too few batches are prepared ahead.
    pub queue: f64,
}

impl WaitReasons {
    /// The same reasons for at most so many seconds: a thread between loader and step waits while the step runs.
    #[must_use]
    pub fn within(self, seconds: f64) -> Self {
        let all = self.read + self.decode + self.queue;
        let share = if all > seconds { seconds / all } else { 1.0 };
        Self { read: self.read * share, decode: self.decode * share, queue: self.queue * share }
    }
}

/// Collects the moments of one wait.
#[derive(Debug, Default)]
pub(super) struct Wait {
    seen: [u32; 3],
}

impl Wait {
    /// Looks at the workers once.
    pub(super) fn look(&mut self, stages: &Stages) {
        for (sum, count) in self.seen.iter_mut().zip(stages.count()) {
            *sum += count;
        }
    }

    /// Divides the wait.
    pub(super) fn reasons(&self, waited: Duration) -> WaitReasons {
        let all: u32 = self.seen.iter().sum();
        let share = |count: u32| waited.as_secs_f64() * f64::from(count) / f64::from(all.max(1));
        let [read, decode, queue] = self.seen.map(share);
        WaitReasons { read, decode, queue }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_divided_by_what_the_workers_do() {
        let stages = Stages::new(4);
        let mut wait = Wait::default();
        assert_eq!(wait.reasons(Duration::from_secs(1)), WaitReasons::default());
        for (worker, stage) in [Stage::Read, Stage::Decode, Stage::Decode].into_iter().enumerate() {
            stages.set(worker, stage);
        }
        wait.look(&stages);
        stages.set(0, Stage::Idle);
        wait.look(&stages);
        let reasons = wait.reasons(Duration::from_secs(8));
        assert_eq!(reasons, WaitReasons { read: 1.0, decode: 4.0, queue: 3.0 });
        assert_eq!(reasons.within(9.0), reasons);
        assert_eq!(reasons.within(2.0), WaitReasons { read: 0.25, decode: 1.0, queue: 0.75 });
        assert_eq!(WaitReasons::default().within(0.0), WaitReasons::default());
    }
}
