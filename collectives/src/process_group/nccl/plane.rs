//! What the groups of one process share: the stream, the calls under way, and the failure if there is one.

use super::current_stream::current_stream;
use super::{FailureCallback, NcclOptions};
use crate::activity::Activity;
use crate::error::CollectiveError;
use nccl_rs::{Communicator, CudaEvent, CudaRuntime, CudaStream};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tch::Device;

/// How long aborting may take before this process counts as stuck.
pub(super) const ABORT_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) struct Plane {
    runtime: CudaRuntime,
    stream: CudaStream,
    pub(super) activity: Activity,
    /// This process's number among all, for messages.
    pub(super) rank: usize,
    pub(super) device: Device,
    pub(super) timeout: Duration,
    pub(super) stand_in: bool,
    pub(super) on_failure: FailureCallback,
    pub(super) on_stuck: FailureCallback,
    state: Mutex<PlaneState>,
    /// The state changed in a way that others wait for.
    pub(super) changed: Condvar,
}

pub(super) struct PlaneState {
    /// Calls under way, the oldest first.
    calls: VecDeque<CollectiveCall>,
    next: u64,
    /// Events to use again.
    spare: Vec<Arc<CudaEvent>>,
    /// When the call before the oldest one was done.
    moved: Instant,
    pub(super) communicators: Vec<Arc<Communicator>>,
    pub(super) failure: Option<CollectiveError>,
    /// All communicators are aborted.
    pub(super) ended: bool,
    /// A caller has been given the failure.
    pub(super) told: bool,
    /// The last group is gone.
    pub(super) closing: bool,
}

struct CollectiveCall {
    number: u64,
    operation: &'static str,
    step: u64,
    since: Instant,
    timeout: Duration,
    /// Done when this is; `None` while the host is inside NCCL.
    done: Option<Arc<CudaEvent>>,
}

/// Who waits for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiter {
    /// What libtorch queues next; on the CPU that is the host.
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
            next: 0,
            spare: Vec::new(),
            moved: Instant::now(),
            communicators: Vec::new(),
            failure: None,
            ended: false,
            told: false,
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

    /// A panic of another thread leaves nothing half done here.
    pub(super) fn state(&self) -> MutexGuard<'_, PlaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(&self, communicator: Arc<Communicator>) {
        self.state().communicators.push(communicator);
    }

    pub(super) fn forget(&self, communicator: &Arc<Communicator>) {
        self.state().communicators.retain(|other| !Arc::ptr_eq(other, communicator));
    }

    /// Queues a call behind libtorch's work and before what comes next.
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

    /// Queues a call behind libtorch's work. What it writes may be used after [`finish`](Self::finish).
    pub(super) fn start(
        &self,
        operation: &'static str,
        timeout: Duration,
        call: impl FnOnce(&CudaStream) -> Result<(), nccl_rs::Error>,
    ) -> Result<Arc<CudaEvent>, CollectiveError> {
        self.check()?;
        let number = self.begin(operation, timeout);
        let done = self.queue(call).map_err(|message| self.give_up(operation, message))?;
        self.state().under_way(number, done.clone());
        Ok(done)
    }

    /// Lets what libtorch queues next, or the host, wait for a call.
    pub(super) fn finish(
        &self,
        operation: &'static str,
        wait: Waiter,
        done: &CudaEvent,
    ) -> Result<(), CollectiveError> {
        if wait == Waiter::OnHost || self.device == Device::Cpu {
            // The host waits here; the watcher frees it if need be.
            done.synchronize().map_err(|error| self.give_up(operation, error.to_string()))?;
        } else if let Device::Cuda(index) = self.device {
            let waits = current_stream(&self.runtime, index)
                .and_then(|libtorch| libtorch.wait(done).map_err(|error| error.to_string()));
            waits.map_err(|message| self.give_up(operation, message))?;
        }
        self.check()
    }

    /// Makes a call that the host waits for itself, under the watcher's eyes.
    pub(super) fn hold<T>(
        &self,
        operation: &'static str,
        call: impl FnOnce() -> Result<T, nccl_rs::Error>,
    ) -> Result<T, CollectiveError> {
        let _entered = self.activity.enter_collective(operation);
        self.check()?;
        let number = self.begin(operation, self.timeout);
        let made = call().map_err(|error| self.give_up(operation, error.to_string()))?;
        self.state().remove(number);
        self.check().map(|()| made)
    }

    /// The failure, if there is one; once what was under way is aborted, so that nothing writes any more.
    pub(super) fn check(&self) -> Result<(), CollectiveError> {
        let state = self.state();
        if state.failure.is_none() {
            return Ok(());
        }
        let aborting = |state: &mut PlaneState| !state.ended && !state.closing;
        let waited = self.changed.wait_timeout_while(state, ABORT_TIMEOUT, aborting);
        let mut state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        state.told = true;
        self.changed.notify_all();
        state.failure.clone().map_or(Ok(()), Err)
    }

    fn begin(&self, operation: &'static str, timeout: Duration) -> u64 {
        let step = self.activity.now().0.step;
        let mut state = self.state();
        state.next += 1;
        let (number, since) = (state.next, Instant::now());
        state.calls.push_back(CollectiveCall { number, operation, step, since, timeout, done: None });
        number
    }

    /// Puts a call into the stream; the answer is done when the call is.
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
        // A stream's wish to wait is for the mark as it is now, so the event can be used again at once.
        self.state().spare.push(before);
        call(&self.stream).map_err(text)?;
        done.record(&self.stream).map_err(text)?;
        Ok(done)
    }

    fn event(&self) -> Result<Arc<CudaEvent>, String> {
        let spare = self.state().spare.pop();
        spare.map_or_else(|| self.runtime.event().map(Arc::new).map_err(|error| error.to_string()), Ok)
    }

    /// Makes an error of this thread's call the failure of all (if there is none yet), and waits for the end.
    fn give_up(&self, operation: &'static str, message: String) -> CollectiveError {
        let (rank, step) = (self.rank, self.activity.now().0.step);
        let own = CollectiveError::Nccl { rank, operation, step, message };
        self.state().failure.get_or_insert_with(|| own.clone());
        self.changed.notify_all();
        self.check().err().unwrap_or(own)
    }

    /// Forgets calls that are done, and finds what is wrong with the others.
    pub(super) fn inspect(&self) -> Option<CollectiveError> {
        let mut state = self.state();
        let problem = state.settle().err().or_else(|| {
            let mut communicators = state.communicators.iter();
            communicators.find_map(|communicator| communicator.async_error().err())
        });
        let oldest = state.calls.front();
        // Between calls it is the connection to the others that fails.
        let between = || ("connection", self.activity.now().0.step);
        let (operation, step) = oldest.map_or_else(between, |call| (call.operation, call.step));
        let rank = self.rank;
        if let Some(error) = problem {
            return Some(CollectiveError::Nccl { rank, operation, step, message: error.to_string() });
        }
        let call = oldest?;
        let waited = call.since.max(state.moved).elapsed();
        let timeout = call.timeout;
        (waited > timeout).then_some(CollectiveError::TimedOut { rank, operation, step, timeout })
    }
}

impl PlaneState {
    fn under_way(&mut self, number: u64, done: Arc<CudaEvent>) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.number == number) {
            call.done = Some(done);
        }
    }

    fn remove(&mut self, number: u64) {
        self.calls.retain(|call| call.number != number);
        self.moved = Instant::now();
    }

    /// Drops the calls that are done: a prefix, as they run in order.
    fn settle(&mut self) -> Result<(), nccl_rs::Error> {
        while let Some(done) = self.calls.front().and_then(|call| call.done.clone()) {
            if !done.is_done()? {
                break;
            }
            self.calls.pop_front();
            self.spare.push(done);
            self.moved = Instant::now();
        }
        Ok(())
    }
}
