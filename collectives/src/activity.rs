//! What this rank is doing, for error messages and for those who watch it from another thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The present step, phase and operation of this process. Clones share it.
#[derive(Debug, Clone)]
pub struct Activity(Arc<Mutex<ActivityState>>);

#[derive(Debug)]
struct ActivityState {
    moment: ActivitySnapshot,
    /// When anything of it last changed.
    since: Instant,
}

/// What a rank does at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivitySnapshot {
    /// Steps done over the whole run.
    pub step: u64,
    /// The part of the run, e.g. `training`.
    pub phase: &'static str,
    /// What is being done now, e.g. `forward` or `all_reduce`.
    pub operation: &'static str,
    /// The operation waits for other ranks.
    pub waits_for_others: bool,
    /// Collective calls made so far: of ranks that are stuck, those with the fewest hold up the others.
    pub calls: u64,
    /// Bytes that this rank has sent for tensors so far: what a ring algorithm sends.
    pub bytes: u64,
    /// How long nothing may change in this phase before the rank counts as stuck.
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
    /// A part of the run begins; in it nothing may stand still for longer than `timeout`.
    pub fn begin(&self, phase: &'static str, timeout: Duration) {
        self.change(|moment| (moment.phase, moment.timeout) = (phase, timeout));
    }

    /// Adapts how long nothing may change.
    pub fn set_timeout(&self, timeout: Duration) {
        self.change(|moment| moment.timeout = timeout);
    }

    /// So many steps are done.
    pub fn set_step(&self, step: u64) {
        self.change(|moment| moment.step = step);
    }

    /// So many bytes of tensors were sent.
    pub fn add_bytes(&self, bytes: u64) {
        self.change(|moment| moment.bytes += bytes);
    }

    /// Names what is done from here until the returned value is dropped.
    #[must_use = "the operation ends when this is dropped"]
    pub fn enter(&self, operation: &'static str) -> OperationGuard {
        self.replace(operation, false)
    }

    /// Like [`enter`](Self::enter), for a call that returns only when other ranks make it too.
    #[must_use = "the operation ends when this is dropped"]
    pub fn enter_collective(&self, operation: &'static str) -> OperationGuard {
        self.replace(operation, true)
    }

    /// What is being done, and for how long nothing has changed.
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

    /// A panic of another thread leaves nothing half done here.
    fn state(&self) -> MutexGuard<'_, ActivityState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operation under way; dropping it returns to what was done before.
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
