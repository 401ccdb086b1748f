//! The watcher thread of the NCCL groups, which aborts calls that hang.
//!
//! Every few milliseconds, it checks for an asynchronous error of NCCL and for a call that exceeds its timeout. After a
//! failure, it takes these steps:
//!
//! 1. It stores the failure, which every call returns from then on.
//! 2. It calls `on_failure`.
//! 3. It aborts all communicators, which releases a thread that waits for a call.
//! 4. If the abort hangs, or no caller receives the failure soon after it, it calls `on_stuck`, which should end the
//!    process.

use super::plane::{ABORT_TIMEOUT, Plane, PlaneState};
use crate::error::CollectiveError;
use nccl_rs::Communicator;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Polling interval.
const POLL: Duration = Duration::from_millis(3);
/// Time after an abort within which a caller must receive the failure.
const RETURN_TIMEOUT: Duration = Duration::from_secs(2);

/// A plane and its watcher thread, which ends when this value is dropped.
pub(super) struct WatchedPlane {
    plane: Arc<Plane>,
    watcher: Option<JoinHandle<()>>,
}

impl WatchedPlane {
    pub(super) fn start(plane: Plane) -> std::io::Result<Self> {
        let plane = Arc::new(plane);
        let watched = plane.clone();
        let builder = std::thread::Builder::new().name("nccl-watch".to_owned());
        let watcher = Some(builder.spawn(move || watch(&watched))?);
        Ok(Self { plane, watcher })
    }

    pub(super) fn plane(&self) -> &Plane {
        &self.plane
    }
}

impl Drop for WatchedPlane {
    fn drop(&mut self) {
        self.plane.state().closing = true;
        self.plane.changed.notify_all();
        if let Some(watcher) = self.watcher.take() {
            // The panic hook has already printed a panic.
            let _ = watcher.join();
        }
    }
}

fn watch(plane: &Plane) {
    if let Some(failure) = first_failure(plane) {
        end(plane, &failure);
    }
}

/// Waits for the first failure; `None` when all groups are dropped.
fn first_failure(plane: &Plane) -> Option<CollectiveError> {
    loop {
        let no_failure = |state: &mut PlaneState| state.failure.is_none() && !state.closing;
        let waited = plane.changed.wait_timeout_while(plane.state(), POLL, no_failure);
        let state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        if let Some(failure) = &state.failure {
            return Some(failure.clone());
        }
        if state.closing {
            return None;
        }
        drop(state);
        if let Some(failure) = plane.inspect() {
            // A caller may have stored its own error first.
            return Some(plane.state().failure.get_or_insert(failure).clone());
        }
    }
}

fn end(plane: &Plane, failure: &CollectiveError) {
    let text = failure.to_string();
    tracing::error!("{text}");
    (plane.on_failure)(&text);
    let communicators = plane.state().communicators.clone();
    if let Err(error) = abort_all(&communicators) {
        return (plane.on_stuck)(&format!("{text}; and it cannot be aborted ({error})"));
    }
    let mut state = plane.state();
    state.ended = true;
    plane.changed.notify_all();
    let unreported = |state: &mut PlaneState| !state.reported && !state.closing;
    let waited = plane.changed.wait_timeout_while(state, RETURN_TIMEOUT, unreported);
    let state = waited.unwrap_or_else(PoisonError::into_inner).0;
    let returned = state.reported || state.closing;
    drop(state);
    if !returned {
        (plane.on_stuck)(&format!(
            "{text}; it was aborted, but the program has not returned within {RETURN_TIMEOUT:?}"
        ));
    }
}

/// Aborts all communicators concurrently, because each may need the whole timeout.
fn abort_all(communicators: &[Arc<Communicator>]) -> Result<(), nccl_rs::Error> {
    std::thread::scope(|scope| {
        let aborts: Vec<_> = communicators
            .iter()
            .map(|communicator| scope.spawn(|| communicator.abort(ABORT_TIMEOUT)))
            .collect();
        aborts.into_iter().try_for_each(|abort| abort.join().unwrap_or(Ok(())))
    })
}
