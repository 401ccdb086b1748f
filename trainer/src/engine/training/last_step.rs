//! The state after the last finished step, kept such that another thread can save it while a step is under way.
//!
//! The trained tensors and their momentum change only in the update at the end of a step. The thread that trains
//! says when it begins to change them, the metrics or the progress, and when all of these fit together again; in between
//! nobody else reads them. Nothing is copied until somebody saves.

use crate::engine::training::progress::Progress;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a change may take that somebody waits for.
const CHANGE: Duration = Duration::from_secs(2);

/// Where the run stood after its last finished step.
#[derive(Debug, Clone)]
pub struct LastStep(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    progress: Progress,
    /// Tensors, metrics and progress do not fit together for the moment.
    changes: bool,
    /// Another thread saves the state and ends the process.
    taken: bool,
    /// The step of the newest snapshot that was handed over to be written, with its metric.
    snapshot: Option<(u64, Option<f64>)>,
}

impl LastStep {
    /// The state as it is now.
    pub fn new(progress: &Progress) -> Self {
        let progress = progress.clone();
        Self(Arc::new(Mutex::new(Kept { progress, changes: false, taken: false, snapshot: None })))
    }

    /// The thread that trains begins to change the state. Where the process is being ended this does not return.
    pub fn begin_change(&self) {
        loop {
            let mut kept = self.kept();
            if !kept.taken {
                kept.changes = true;
                return;
            }
            drop(kept);
            std::thread::park();
        }
    }

    /// Everything fits together again.
    pub fn end_change(&self, progress: &Progress) {
        let mut kept = self.kept();
        kept.progress.clone_from(progress);
        kept.changes = false;
    }

    /// A snapshot after this step is on its way to the disk.
    pub fn note_snapshot(&self, step: u64, metric: Option<f64>) {
        self.kept().snapshot = Some((step, metric));
    }

    /// Takes the state from the thread that trains, for good: progress, and the metric of a snapshot after the same step.
    pub fn take(&self) -> Result<(Progress, Option<f64>), String> {
        let start = Instant::now();
        loop {
            let mut kept = self.kept();
            if !kept.changes {
                kept.taken = true;
                let metric = kept.snapshot.filter(|(step, _)| *step == kept.progress.steps);
                return Ok((kept.progress.clone(), metric.and_then(|(_, metric)| metric)));
            }
            drop(kept);
            if start.elapsed() > CHANGE {
                return Err("the step was just being applied, and did not come to its end".to_owned());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(steps: u64) -> Progress {
        Progress { steps, ..Progress::default() }
    }

    #[test]
    fn a_state_that_changes_is_not_taken_before_it_fits_together() {
        let last = LastStep::new(&after(6));
        last.begin_change();
        let theirs = last.clone();
        let taker = std::thread::spawn(move || theirs.take());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!taker.is_finished());
        last.end_change(&after(7));
        assert_eq!(taker.join().unwrap(), Ok((after(7), None)));
    }

    #[test]
    fn the_thread_that_trains_comes_no_further_once_the_state_is_taken() {
        let last = LastStep::new(&after(7));
        last.note_snapshot(7, Some(0.5));
        assert_eq!(last.take(), Ok((after(7), Some(0.5))));
        let theirs = last.clone();
        let training = std::thread::spawn(move || theirs.begin_change());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!training.is_finished());
    }

    #[test]
    fn a_change_that_does_not_end_is_an_error() {
        let last = LastStep::new(&after(7));
        last.begin_change();
        assert!(last.take().unwrap_err().contains("did not come to its end"));
    }
}
