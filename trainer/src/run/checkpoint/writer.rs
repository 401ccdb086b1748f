//! Writes checkpoints in a separate thread, so that a training step never waits for a disk.
//!
//! At most one snapshot is being written and one more waits, besides those that must not be replaced. The training
//! thread holds the lock for a few instructions only, and no memory of a snapshot is freed or allocated under it.

use super::retry::patiently;
use super::{CheckpointError, Snapshot, Store, TensorBytes, WrittenCheckpoint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Sets of buffers that are stored for [`CheckpointWriter::recycle`]: at most one is being filled, one waits and one is
/// being written.
const MOST_USED: usize = 2;

/// Handling of failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// After this many checkpoints in a row that could not be written, [`WriterEvent::Failed`] says that the writer gave up.
    pub max_failures: u32,
    /// Pauses between the attempts after a transient error.
    pub pauses: Vec<Duration>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        let pauses = [100, 400, 1_600, 5_000].map(Duration::from_millis).to_vec();
        Self { max_failures: 3, pauses }
    }
}

/// An event of the thread.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WriterEvent {
    /// A checkpoint is on disk.
    Written(WrittenCheckpoint),
    /// A checkpoint could not be written; the older ones are unchanged.
    Failed {
        /// Its step.
        step: u64,
        /// Why.
        error: CheckpointError,
        /// Failures since the last success, including this one.
        in_a_row: u32,
        /// Whether the limit of failures is reached, so that the run has to end. Later snapshots are still tried.
        gave_up: bool,
    },
    /// A transient error; the same checkpoint is tried again.
    Retried {
        /// Its step.
        step: u64,
        /// The error.
        error: CheckpointError,
        /// Time until the next attempt.
        pause: Duration,
    },
    /// A waiting snapshot was replaced by a newer one.
    Replaced {
        /// Its step.
        step: u64,
        /// The step of the newer one.
        by: u64,
    },
}

/// The thread that writes checkpoints.
///
/// On drop it writes what was submitted and ends; [`CheckpointWriter::finish`] does the same and returns the outcome.
#[derive(Debug)]
pub struct CheckpointWriter<S> {
    shared: Arc<Shared<S>>,
    thread: Option<JoinHandle<Option<CheckpointError>>>,
}

#[derive(Debug)]
struct Shared<S> {
    desk: Mutex<WriterDesk<S>>,
    /// Notified when a snapshot arrives or the queue is closed.
    arrival: Condvar,
}

/// State shared by both threads.
#[derive(Debug)]
struct WriterDesk<S> {
    waiting: VecDeque<WriteJob<S>>,
    /// Whether one is being written.
    busy: bool,
    closed: bool,
    events: Vec<WriterEvent>,
    /// Buffers to be reused.
    used: Vec<Vec<TensorBytes>>,
}

#[derive(Debug)]
struct WriteJob<S> {
    snapshot: Snapshot<S>,
    metric: Option<f64>,
    must_keep: bool,
    /// Receiver of the result, if a thread waits for it.
    waits: Option<Sender<Result<(), CheckpointError>>>,
}

/// A handle to the writer thread, for a thread that does not own the [`CheckpointWriter`].
#[derive(Debug)]
pub struct EmergencyWriter<S>(Arc<Shared<S>>);

impl<S: Serialize + DeserializeOwned + Send + 'static> CheckpointWriter<S> {
    /// Starts the thread.
    pub fn start(store: Store, options: WriterOptions) -> Result<Self, CheckpointError> {
        let shared = Arc::new(Shared { desk: Mutex::new(WriterDesk::new()), arrival: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread = Builder::new()
            .name("checkpoints".into())
            .spawn(move || theirs.work(store, &options))
            .map_err(|error| CheckpointError::Thread { reason: format!("cannot be started: {error}") })?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl<S> CheckpointWriter<S> {
    /// Submits a snapshot and returns at once. If one waits already, the newer one replaces it.
    pub fn submit(&self, snapshot: Snapshot<S>, metric: Option<f64>) {
        self.shared.add(WriteJob { snapshot, metric, must_keep: false, waits: None });
    }

    /// Submits a snapshot that no newer one may replace, such as the last one before the run is stopped.
    pub fn submit_must_keep(&self, snapshot: Snapshot<S>, metric: Option<f64>) {
        self.shared.add(WriteJob { snapshot, metric, must_keep: true, waits: None });
    }

    /// A handle to the same thread.
    pub fn side_entrance(&self) -> EmergencyWriter<S> {
        EmergencyWriter(Arc::clone(&self.shared))
    }

    /// The events since the last call, in order. Never waits for a disk.
    pub fn events(&self) -> Vec<WriterEvent> {
        std::mem::take(&mut self.shared.desk().events)
    }

    /// Tensors of a finished snapshot, to be reused instead of allocating new ones. They have the names, shapes and
    /// bytes of that snapshot, in the order submitted.
    pub fn recycle(&self) -> Option<Vec<TensorBytes>> {
        self.shared.desk().used.pop()
    }

    /// Whether nothing waits and nothing is being written.
    pub fn is_idle(&self) -> bool {
        let desk = self.shared.desk();
        desk.waiting.is_empty() && !desk.busy
    }

    /// Waits until everything submitted was written or has failed, and ends the thread. An error is that of the last
    /// snapshot. [`CheckpointWriter::events`] still returns all events.
    pub fn finish(&mut self) -> Result<(), CheckpointError> {
        self.shared.desk().closed = true;
        self.shared.arrival.notify_all();
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(None)) => Ok(()),
            Some(Ok(Some(error))) => Err(error),
            Some(Err(_)) => Err(panicked()),
        }
    }
}

impl<S> EmergencyWriter<S> {
    /// Submits a snapshot that no newer one may replace, and waits until it is written.
    pub fn write(&self, snapshot: Snapshot<S>, metric: Option<f64>) -> Result<(), CheckpointError> {
        let (told, waits) = channel();
        self.0.add(WriteJob { snapshot, metric, must_keep: true, waits: Some(told) });
        // The thread has ended: the run was being closed.
        waits.recv().unwrap_or_else(|_| Err(CheckpointError::Thread { reason: "has ended".into() }))
    }
}

fn panicked() -> CheckpointError {
    CheckpointError::Thread { reason: "panicked".into() }
}

impl<S> Drop for CheckpointWriter<S> {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::error!("{error}");
        }
    }
}

impl<S> WriterDesk<S> {
    fn new() -> Self {
        Self { waiting: VecDeque::new(), busy: false, closed: false, events: Vec::new(), used: Vec::new() }
    }

    /// Stores buffers for [`CheckpointWriter::recycle`]. If there are enough, returns the oldest, to be freed outside
    /// the lock.
    fn keep_used(&mut self, tensors: Vec<TensorBytes>) -> Option<Vec<TensorBytes>> {
        self.used.push(tensors);
        (self.used.len() > MOST_USED).then(|| self.used.remove(0))
    }
}

impl<S> Shared<S> {
    fn desk(&self) -> MutexGuard<'_, WriterDesk<S>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, job: WriteJob<S>) {
        let mut desk = self.desk();
        let by = job.snapshot.step;
        let replaced = desk.waiting.pop_back_if(|last| !last.must_keep);
        desk.waiting.push_back(job);
        let surplus = replaced.and_then(|WriteJob { snapshot, .. }| {
            desk.events.push(WriterEvent::Replaced { step: snapshot.step, by });
            desk.keep_used(snapshot.tensors)
        });
        drop(desk);
        self.arrival.notify_all();
        drop(surplus);
    }

    /// The next snapshot; none when the queue is closed and empty.
    fn next(&self) -> Option<WriteJob<S>> {
        let mut desk = self.desk();
        loop {
            if let Some(job) = desk.waiting.pop_front() {
                desk.busy = true;
                return Some(job);
            }
            if desk.closed {
                return None;
            }
            desk = self.arrival.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, snapshot: Snapshot<S>, event: WriterEvent) {
        let mut desk = self.desk();
        desk.busy = false;
        desk.events.push(event);
        let surplus = desk.keep_used(snapshot.tensors);
        drop(desk);
        drop(surplus);
    }
}

impl<S: Serialize + DeserializeOwned> Shared<S> {
    /// Main loop of the thread. Returns the error of the last snapshot, if it failed.
    fn work(&self, mut store: Store, options: &WriterOptions) -> Option<CheckpointError> {
        let mut failures = 0;
        let mut last = None;
        while let Some(WriteJob { snapshot, metric, waits, .. }) = self.next() {
            let step = snapshot.step;
            let told = |error: &CheckpointError, pause| {
                self.desk().events.push(WriterEvent::Retried { step, error: error.clone(), pause });
            };
            let write = || patiently(&options.pauses, told, || store.write(&snapshot, metric));
            // A thread that waits for an event must get one even if the code of the state panics.
            let outcome = catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| Err(panicked()));
            let event = match outcome {
                Ok(written) => {
                    (failures, last) = (0, None);
                    WriterEvent::Written(written)
                }
                Err(error) => {
                    failures += 1;
                    last = Some(error.clone());
                    WriterEvent::Failed {
                        step,
                        error,
                        in_a_row: failures,
                        gave_up: failures >= options.max_failures,
                    }
                }
            };
            self.done(snapshot, event);
            if let Some(told) = waits {
                let _ = told.send(last.clone().map_or(Ok(()), Err));
            }
        }
        last
    }
}
