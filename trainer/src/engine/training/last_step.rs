//! The state after the last finished step, available to another thread that saves it during a step.
//!
//! The trained tensors and their momentum change only in the update at the end of a step. The training thread marks
//! when it begins to change them, the metrics or the progress, and when all of these are consistent again; in between
//! no other thread reads them. Nothing is copied until a save.

use crate::engine::training::progress::Progress;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time limit of a change that a save waits for.
const CHANGE: Duration = Duration::from_secs(2);

/// The progress after the last finished step.
#[derive(Debug, Clone)]
pub struct LastStep(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    progress: Progress,
    /// Tensors, metrics and progress are currently inconsistent.
    changes: bool,
    /// Another thread saves the state and ends the process.
    taken: bool,
    /// The step and metric of the newest submitted snapshot.
    snapshot: Option<(u64, Option<f64>)>,
}

impl LastStep {
    /// The current state.
    pub fn new(progress: &Progress) -> Self {
        let progress = progress.clone();
        Self(Arc::new(Mutex::new(Kept { progress, changes: false, taken: false, snapshot: None })))
    }

    /// Marks that the training thread begins to change the state. Does not return if the process is being ended.
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

    /// Marks the state as consistent again.
    pub fn end_change(&self, progress: &Progress) {
        let mut kept = self.kept();
        kept.progress.clone_from(progress);
        kept.changes = false;
    }

    /// Records that a snapshot after this step was submitted.
    pub fn note_snapshot(&self, step: u64, metric: Option<f64>) {
        self.kept().snapshot = Some((step, metric));
    }

    /// Takes the state from the training thread permanently: progress, and the metric of a snapshot after the same
    /// step.
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
                return Err("the update of the step did not finish in time".to_owned());
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
        assert!(last.take().unwrap_err().contains("did not finish in time"));
    }
}
