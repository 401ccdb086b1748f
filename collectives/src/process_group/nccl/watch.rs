//! The thread that ends what can end in no other way.
//!
//! It looks every few milliseconds for an error that NCCL found by itself and for a call that takes too long.
//! Then, in this order: the failure is set, so that every call answers it; `on_failure` is told; all communicators
//! are aborted, which frees a thread that waits for a call; and if the abort hangs, or no caller has come for
//! the failure soon after it, `on_stuck` is told, which should end the process.

use super::plane::{ABORT_TIMEOUT, Plane, PlaneState};
use crate::error::CollectiveError;
use nccl_rs::Communicator;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Pause between two looks.
const POLL: Duration = Duration::from_millis(3);
/// How long after an abort a caller may take to come back.
const RETURN_TIMEOUT: Duration = Duration::from_secs(2);

/// A plane and its watcher, which ends with this value.
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
            // Its panic has been printed; there is nothing to add.
            let _ = watcher.join();
        }
    }
}

fn watch(plane: &Plane) {
    if let Some(failure) = first_failure(plane) {
        end(plane, &failure);
    }
}

/// Looks until something is wrong; `None` when the groups are gone.
fn first_failure(plane: &Plane) -> Option<CollectiveError> {
    loop {
        let quiet = |state: &mut PlaneState| state.failure.is_none() && !state.closing;
        let waited = plane.changed.wait_timeout_while(plane.state(), POLL, quiet);
        let state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        if let Some(failure) = &state.failure {
            return Some(failure.clone());
        }
        if state.closing {
            return None;
        }
        drop(state);
        if let Some(failure) = plane.inspect() {
            // The caller's own error may have come first.
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
    let away = |state: &mut PlaneState| !state.told && !state.closing;
    let waited = plane.changed.wait_timeout_while(state, RETURN_TIMEOUT, away);
    let state = waited.unwrap_or_else(PoisonError::into_inner).0;
    let returned = state.told || state.closing;
    drop(state);
    if !returned {
        (plane.on_stuck)(&format!(
            "{text}; it was aborted, but the program has not come back within {RETURN_TIMEOUT:?}"
        ));
    }
}

/// Aborts all at once: each may need the whole timeout.
fn abort_all(communicators: &[Arc<Communicator>]) -> Result<(), nccl_rs::Error> {
    std::thread::scope(|scope| {
        let aborts: Vec<_> = communicators
            .iter()
            .map(|communicator| scope.spawn(|| communicator.abort(ABORT_TIMEOUT)))
            .collect();
        aborts.into_iter().try_for_each(|abort| abort.join().unwrap_or(Ok(())))
    })
}
