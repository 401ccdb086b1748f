//! State that all NCCL groups of a process share: the stream, the pending calls, and the failure if there is one.

use super::current_stream::current_stream;
use super::{FailureCallback, NcclOptions};
use crate::activity::Activity;
use crate::error::CollectiveError;
use nccl_rs::{Communicator, CudaEvent, CudaRuntime, CudaStream};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tch::Device;

/// Timeout of an abort, after which this process counts as stuck.
pub(super) const ABORT_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) struct Plane {
    runtime: CudaRuntime,
    stream: CudaStream,
    pub(super) activity: Activity,
    /// Rank of this process in the world, for messages.
    pub(super) rank: usize,
    pub(super) device: Device,
    pub(super) timeout: Duration,
    pub(super) stand_in: bool,
    pub(super) on_failure: FailureCallback,
    pub(super) on_stuck: FailureCallback,
    state: Mutex<PlaneState>,
    /// Signals changes of the state.
    pub(super) changed: Condvar,
}

pub(super) struct PlaneState {
    /// Pending calls, the oldest first.
    calls: VecDeque<CollectiveCall>,
    last_number: u64,
    /// Events for reuse.
    spare_events: Vec<Arc<CudaEvent>>,
    /// End of the last completed call.
    last_completed: Instant,
    pub(super) communicators: Vec<Arc<Communicator>>,
    pub(super) failure: Option<CollectiveError>,
    /// Whether all communicators are aborted.
    pub(super) ended: bool,
    /// Whether a caller has received the failure.
    pub(super) reported: bool,
    /// Whether the last group is dropped.
    pub(super) closing: bool,
}

struct CollectiveCall {
    number: u64,
    operation: &'static str,
    step: u64,
    since: Instant,
    timeout: Duration,
    /// The event after the call; `None` while the host is inside NCCL.
    done: Option<Arc<CudaEvent>>,
}

/// The waiter for the result of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiter {
    /// Later work of libtorch on the device; on the CPU, the host.
    OnDevice,
    /// The host.
    OnHost,
}

impl Plane {
    pub(super) fn new(
        runtime: CudaRuntime,
        stream: CudaStream,
        (activity, rank): (Activity, usize),
        options: NcclOptions,
        stand_in: bool,
    ) -> Self {
        let NcclOptions { device, timeout, on_failure, on_stuck } = options;
        let state = PlaneState {
            calls: VecDeque::new(),
            last_number: 0,
            spare_events: Vec::new(),
            last_completed: Instant::now(),
            communicators: Vec::new(),
            failure: None,
            ended: false,
            reported: false,
            closing: false,
        };
        Self {
            runtime,
            stream,
            activity,
            rank,
            device,
            timeout,
            stand_in,
            on_failure,
            on_stuck,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Ignores poisoning: a panic of another thread leaves the state consistent.
    pub(super) fn state(&self) -> MutexGuard<'_, PlaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(&self, communicator: Arc<Communicator>) {
        self.state().communicators.push(communicator);
    }

    pub(super) fn unregister(&self, communicator: &Arc<Communicator>) {
        self.state().communicators.retain(|other| !Arc::ptr_eq(other, communicator));
    }

    /// Queues a call between the earlier and the later work of libtorch.
    pub(super) fn run(
        &self,
        operation: &'static str,
        timeout: Duration,
        wait: Waiter,
        call: impl FnOnce(&CudaStream) -> Result<(), nccl_rs::Error>,
    ) -> Result<(), CollectiveError> {
        let _entered = self.activity.enter_collective(operation);
        let done = self.start(operation, timeout, call)?;
        self.finish(operation, wait, &done)
    }

    /// Queues a call after the earlier work of libtorch. Its result may be used after [`finish`](Self::finish).
    pub(super) fn start(
        &self,
        operation: &'static str,
        timeout: Duration,
        call: impl FnOnce(&CudaStream) -> Result<(), nccl_rs::Error>,
    ) -> Result<Arc<CudaEvent>, CollectiveError> {
        self.check()?;
        let number = self.begin(operation, timeout);
        let done = self.queue(call).map_err(|message| self.fail(operation, message))?;
        self.state().set_event(number, done.clone());
        Ok(done)
    }

    /// Makes later work of libtorch, or the host, wait for a call.
    pub(super) fn finish(
        &self,
        operation: &'static str,
        wait: Waiter,
        done: &CudaEvent,
    ) -> Result<(), CollectiveError> {
        if wait == Waiter::OnHost || self.device == Device::Cpu {
            // Synchronises the host with the device; the watcher releases the host if the call hangs.
            done.synchronize().map_err(|error| self.fail(operation, error.to_string()))?;
        } else if let Device::Cuda(index) = self.device {
            let waits = current_stream(&self.runtime, index)
                .and_then(|libtorch| libtorch.wait(done).map_err(|error| error.to_string()));
            waits.map_err(|message| self.fail(operation, message))?;
        }
        self.check()
    }

    /// Makes a blocking call, which the watcher monitors as well.
    pub(super) fn run_blocking<T>(
        &self,
        operation: &'static str,
        call: impl FnOnce() -> Result<T, nccl_rs::Error>,
    ) -> Result<T, CollectiveError> {
        let _entered = self.activity.enter_collective(operation);
        self.check()?;
        let number = self.begin(operation, self.timeout);
        let result = call().map_err(|error| self.fail(operation, error.to_string()))?;
        self.state().remove(number);
        self.check().map(|()| result)
    }

    /// Returns the failure, if there is one, after the pending calls are aborted and no longer write into tensors.
    pub(super) fn check(&self) -> Result<(), CollectiveError> {
        let state = self.state();
        if state.failure.is_none() {
            return Ok(());
        }
        let aborting = |state: &mut PlaneState| !state.ended && !state.closing;
        let waited = self.changed.wait_timeout_while(state, ABORT_TIMEOUT, aborting);
        let mut state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        state.reported = true;
        self.changed.notify_all();
        state.failure.clone().map_or(Ok(()), Err)
    }

    fn begin(&self, operation: &'static str, timeout: Duration) -> u64 {
        let step = self.activity.now().0.step;
        let mut state = self.state();
        state.last_number += 1;
        let (number, since) = (state.last_number, Instant::now());
        state.calls.push_back(CollectiveCall { number, operation, step, since, timeout, done: None });
        number
    }

    /// Queues a call on the stream, and returns the event after it.
    fn queue(
        &self,
        call: impl FnOnce(&CudaStream) -> Result<(), nccl_rs::Error>,
    ) -> Result<Arc<CudaEvent>, String> {
        let done = self.event()?;
        let text = |error: nccl_rs::Error| error.to_string();
        let Device::Cuda(index) = self.device else {
            call(&self.stream).map_err(text)?;
            done.record(&self.stream).map_err(text)?;
            return Ok(done);
        };
        let libtorch = current_stream(&self.runtime, index)?;
        let before = self.event()?;
        before.record(&libtorch).map_err(text)?;
        self.stream.wait(&before).map_err(text)?;
        // `wait` refers to the current record of the event, so the event can be reused at once.
        self.state().spare_events.push(before);
        call(&self.stream).map_err(text)?;
        done.record(&self.stream).map_err(text)?;
        Ok(done)
    }

    fn event(&self) -> Result<Arc<CudaEvent>, String> {
        let spare = self.state().spare_events.pop();
        spare.map_or_else(|| self.runtime.event().map(Arc::new).map_err(|error| error.to_string()), Ok)
    }

    /// Stores an error of a call as the failure of all groups (if there is none yet), and waits for the abort.
    fn fail(&self, operation: &'static str, message: String) -> CollectiveError {
        let (rank, step) = (self.rank, self.activity.now().0.step);
        let own = CollectiveError::Nccl { rank, operation, step, message };
        self.state().failure.get_or_insert_with(|| own.clone());
        self.changed.notify_all();
        self.check().err().unwrap_or(own)
    }

    /// Removes completed calls, and returns the failure of the pending ones.
    pub(super) fn inspect(&self) -> Option<CollectiveError> {
        let mut state = self.state();
        let problem = state.remove_completed().err().or_else(|| {
            let mut communicators = state.communicators.iter();
            communicators.find_map(|communicator| communicator.async_error().err())
        });
        let oldest = state.calls.front();
        // Without a pending call, the connection to the other ranks has failed.
        let between = || ("connection", self.activity.now().0.step);
        let (operation, step) = oldest.map_or_else(between, |call| (call.operation, call.step));
        let rank = self.rank;
        if let Some(error) = problem {
            return Some(CollectiveError::Nccl { rank, operation, step, message: error.to_string() });
        }
        let call = oldest?;
        let waited = call.since.max(state.last_completed).elapsed();
        let timeout = call.timeout;
        (waited > timeout).then_some(CollectiveError::TimedOut { rank, operation, step, timeout })
    }
}

impl PlaneState {
    fn set_event(&mut self, number: u64, done: Arc<CudaEvent>) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.number == number) {
            call.done = Some(done);
        }
    }

    fn remove(&mut self, number: u64) {
        self.calls.retain(|call| call.number != number);
        self.last_completed = Instant::now();
    }

    /// Removes the completed calls: a prefix, because they run in order.
    fn remove_completed(&mut self) -> Result<(), nccl_rs::Error> {
        while let Some(done) = self.calls.front().and_then(|call| call.done.clone()) {
            if !done.is_done()? {
                break;
            }
            self.calls.pop_front();
            self.spare_events.push(done);
            self.last_completed = Instant::now();
        }
        Ok(())
    }
}
