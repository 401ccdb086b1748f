//! The current activity of this rank, for error messages and for the liveness thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The current step, phase and operation of this process, shared by all clones.
#[derive(Debug, Clone)]
pub struct Activity(Arc<Mutex<ActivityState>>);

#[derive(Debug)]
struct ActivityState {
    moment: ActivitySnapshot,
    /// Time of the last change.
    since: Instant,
}

/// A snapshot of the activity of a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivitySnapshot {
    /// Steps done over the whole run.
    pub step: u64,
    /// The phase of the run, e.g. `training`.
    pub phase: &'static str,
    /// The current operation, e.g. `forward` or `all_reduce`.
    pub operation: &'static str,
    /// Whether the operation waits for other ranks.
    pub waits_for_others: bool,
    /// Collective calls made so far: among stuck ranks, those with the fewest block the others.
    pub calls: u64,
    /// Bytes of tensors that this rank has sent so far, as counted for a ring algorithm.
    pub bytes: u64,
    /// Time without a change in this phase after which the rank counts as stuck.
    pub timeout: Duration,
}

impl Default for Activity {
    fn default() -> Self {
        let moment = ActivitySnapshot {
            step: 0,
            phase: "starting",
            operation: "starting",
            waits_for_others: false,
            calls: 0,
            bytes: 0,
            timeout: Duration::MAX,
        };
        Self(Arc::new(Mutex::new(ActivityState { moment, since: Instant::now() })))
    }
}

impl Activity {
    /// Begins a phase of the run, in which the rank counts as stuck after `timeout` without a change.
    pub fn begin(&self, phase: &'static str, timeout: Duration) {
        self.change(|moment| (moment.phase, moment.timeout) = (phase, timeout));
    }

    /// Changes the timeout of the current phase.
    pub fn set_timeout(&self, timeout: Duration) {
        self.change(|moment| moment.timeout = timeout);
    }

    /// Sets the number of steps done.
    pub fn set_step(&self, step: u64) {
        self.change(|moment| moment.step = step);
    }

    /// Adds to the bytes of tensors sent.
    pub fn add_bytes(&self, bytes: u64) {
        self.change(|moment| moment.bytes += bytes);
    }

    /// Begins an operation, which ends when the returned value is dropped.
    #[must_use = "the operation ends when this is dropped"]
    pub fn enter(&self, operation: &'static str) -> OperationGuard {
        self.replace(operation, false)
    }

    /// Like [`enter`](Self::enter), for a call that returns only when other ranks make it, too.
    #[must_use = "the operation ends when this is dropped"]
    pub fn enter_collective(&self, operation: &'static str) -> OperationGuard {
        self.replace(operation, true)
    }

    /// The current activity, and the time since its last change.
    pub fn now(&self) -> (ActivitySnapshot, Duration) {
        let state = self.state();
        (state.moment, state.since.elapsed())
    }

    fn replace(&self, operation: &'static str, waits: bool) -> OperationGuard {
        let mut state = self.state();
        let before = (state.moment.operation, state.moment.waits_for_others);
        (state.moment.operation, state.moment.waits_for_others) = (operation, waits);
        state.moment.calls += u64::from(waits);
        state.since = Instant::now();
        OperationGuard { activity: self.clone(), before }
    }

    fn change(&self, change: impl FnOnce(&mut ActivitySnapshot)) {
        let mut state = self.state();
        change(&mut state.moment);
        state.since = Instant::now();
    }

    /// Ignores poisoning: a panic of another thread leaves the value consistent.
    fn state(&self) -> MutexGuard<'_, ActivityState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An active operation; dropping it restores the previous one.
#[derive(Debug)]
pub struct OperationGuard {
    activity: Activity,
    before: (&'static str, bool),
}

impl Drop for OperationGuard {
    fn drop(&mut self) {
        let before = self.before;
        self.activity.change(|moment| (moment.operation, moment.waits_for_others) = before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_nest_and_collectives_are_counted() {
        let activity = Activity::default();
        activity.begin("training", Duration::from_secs(10));
        activity.set_step(7);
        let forward = activity.enter("forward");
        let (inside, _) = {
            let _reduce = activity.enter_collective("all_reduce");
            activity.now()
        };
        assert_eq!((inside.operation, inside.waits_for_others, inside.calls), ("all_reduce", true, 1));
        assert_eq!(activity.now().0.operation, "forward");
        drop(forward);
        let (after, idle) = activity.now();
        assert_eq!((after.operation, after.step, after.phase), ("starting", 7, "training"));
        assert!(!after.waits_for_others && idle < Duration::from_secs(5));
    }
}
