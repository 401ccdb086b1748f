//! Communicators: made, used, asked for errors, aborted.

use crate::error::Error;
use crate::ffi::{self, NCCL_IN_PROGRESS, NCCL_SUCCESS, RawConfig};
use crate::library::Library;
use crate::runtime::CudaStream;
use crate::values::{DataType, RedOp, UniqueId};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Pause between two questions whether a call has ended.
const POLL: Duration = Duration::from_micros(200);
/// How long a communicator that is dropped may take to say goodbye, and to be aborted after that.
const GOODBYE: Duration = Duration::from_secs(3);

/// This process's place in a group of ranks that exchange data.
///
/// Communicators are non-blocking: every call that has to wait for other ranks is given up after the
/// `timeout` of [`init_rank`](Self::init_rank). It can be shared by threads; all ranks make the same
/// collective calls in the same order.
///
/// Dropping a communicator ends it in good order; one that had an error is aborted instead. Both take
/// seconds at most.
pub struct Communicator {
    inner: Arc<Inner>,
    timeout: Duration,
    rank: usize,
    size: usize,
}

struct Inner {
    library: Library,
    /// Null once aborted. NCCL frees a communicator when it aborts it, so every call holds the lock.
    handle: Mutex<Handle>,
    failed: AtomicBool,
}

#[derive(Clone, Copy)]
struct Handle(ffi::RawComm);

// SAFETY: a communicator may be used from any thread; the lock around it lets one in at a time.
unsafe impl Send for Handle {}

impl Communicator {
    /// Joins the communicator `id` as `rank` of `size`, with the calling thread's device.
    ///
    /// Returns when all ranks have joined; after `timeout` it is given up and aborted.
    pub fn init_rank(
        library: &Library,
        id: &UniqueId,
        (rank, size): (usize, usize),
        timeout: Duration,
    ) -> Result<Self, Error> {
        const CALL: &str = "ncclCommInitRankConfig";
        let (number, count) = (small(CALL, "rank", rank)?, small(CALL, "size", size)?);
        Self::make(library, (rank, size), CALL, timeout, |slot| {
            let mut config = RawConfig::non_blocking();
            // SAFETY: `slot` outlives the communicator's making; NCCL copies `config`.
            unsafe { (library.0.init_rank_config)(slot, count, id.raw(), number, &raw mut config) }
        })
    }

    /// Ranks that give the same `color` form a communicator of their own, ordered by `key` and then by
    /// their rank here. `place` is this process's rank and size in it, which the caller knows.
    pub fn split(&self, color: usize, key: usize, place: (usize, usize)) -> Result<Self, Error> {
        const CALL: &str = "ncclCommSplit";
        let function = self.inner.library.split()?;
        let (color, key) = (small(CALL, "color", color)?, small(CALL, "key", key)?);
        Self::make(&self.inner.library, place, CALL, self.timeout, |slot| {
            let mut config = RawConfig::non_blocking();
            let outcome = self.call(CALL, |handle| {
                // SAFETY: the parent is alive under the lock, `slot` outlives the child's making.
                unsafe { function(handle, color, key, slot, &raw mut config) }
            });
            match outcome {
                Ok(()) => NCCL_SUCCESS,
                Err(Error::Nccl { code, .. }) => code,
                Err(Error::TimedOut { .. }) => NCCL_IN_PROGRESS,
                Err(_) => ABORTED,
            }
        })
    }

    /// Starts the making of a communicator by `start` and waits until it is ready.
    fn make(
        library: &Library,
        (rank, size): (usize, usize),
        call: &'static str,
        timeout: Duration,
        start: impl FnOnce(*mut ffi::RawComm) -> c_int,
    ) -> Result<Self, Error> {
        let begin = Instant::now();
        // NCCL may write the handle here at any later time, also after we gave up: then it is leaked.
        let slot = Box::into_raw(Box::new(AtomicPtr::<c_void>::new(std::ptr::null_mut())));
        let code = start(slot.cast::<ffi::RawComm>());
        if code == ABORTED {
            return Err(Error::Aborted { call });
        }
        if code != NCCL_SUCCESS && code != NCCL_IN_PROGRESS {
            return Err(library.0.error(call, code, std::ptr::null_mut()));
        }
        // SAFETY: never freed before the end of this function.
        let handle = || unsafe { (*slot).load(Ordering::Acquire) };
        while handle().is_null() {
            if begin.elapsed() > timeout {
                return Err(Error::TimedOut { call, timeout });
            }
            std::thread::sleep(POLL);
        }
        let inner = Inner {
            library: library.clone(),
            handle: Mutex::new(Handle(handle())),
            failed: AtomicBool::new(false),
        };
        let made = Self { inner: Arc::new(inner), timeout, rank, size };
        made.settle(call, timeout.saturating_sub(begin.elapsed()))?;
        // SAFETY: made by Box::into_raw above; a ready communicator is not written any more.
        drop(unsafe { Box::from_raw(slot) });
        Ok(made)
    }

    /// This process's number, `0..size`.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Combines `count` elements at `send` of all ranks into `receive` of all ranks, on `stream`.
    ///
    /// # Safety
    /// Both point to `count` elements that `stream`'s device can reach, and are the same or apart from
    /// each other. Until the stream has passed this call, nobody else writes them, or reads `receive`,
    /// or frees them. Every rank gives the same `count`, `kind` and `op`.
    pub unsafe fn all_reduce(
        &self,
        (send, receive): (*const c_void, *mut c_void),
        count: usize,
        kind: DataType,
        op: RedOp,
        stream: &CudaStream,
    ) -> Result<(), Error> {
        self.call("ncclAllReduce", |handle| {
            let function = self.inner.library.0.all_reduce;
            // SAFETY: the caller's promise; the communicator is alive under the lock.
            unsafe { function(send, receive, count, kind.code(), op.code(), handle, stream.raw()) }
        })
    }

    /// Lays `count` elements at `send` of every rank one behind the other, by rank, at `receive` of all.
    ///
    /// # Safety
    /// As for [`all_reduce`](Self::all_reduce), but `receive` points to `count * size` elements, and `send`
    /// is apart from it or is this rank's own part of it.
    pub unsafe fn all_gather(
        &self,
        (send, receive): (*const c_void, *mut c_void),
        count: usize,
        kind: DataType,
        stream: &CudaStream,
    ) -> Result<(), Error> {
        self.call("ncclAllGather", |handle| {
            let function = self.inner.library.0.all_gather;
            // SAFETY: the caller's promise; the communicator is alive under the lock.
            unsafe { function(send, receive, count, kind.code(), handle, stream.raw()) }
        })
    }

    /// Combines `count * size` elements at `send` of all ranks and leaves part `rank` of the result, of
    /// `count` elements, at `receive`.
    ///
    /// # Safety
    /// As for [`all_reduce`](Self::all_reduce), but `send` points to `count * size` elements, and `receive`
    /// is apart from it or is this rank's own part of it.
    pub unsafe fn reduce_scatter(
        &self,
        (send, receive): (*const c_void, *mut c_void),
        count: usize,
        kind: DataType,
        op: RedOp,
        stream: &CudaStream,
    ) -> Result<(), Error> {
        self.call("ncclReduceScatter", |handle| {
            let function = self.inner.library.0.reduce_scatter;
            // SAFETY: the caller's promise; the communicator is alive under the lock.
            unsafe { function(send, receive, count, kind.code(), op.code(), handle, stream.raw()) }
        })
    }

    /// Copies `count` elements at `send` of rank `root` to `receive` of all ranks.
    ///
    /// # Safety
    /// As for [`all_reduce`](Self::all_reduce); `send` is read at `root` only, `root` is the same everywhere.
    pub unsafe fn broadcast(
        &self,
        (send, receive): (*const c_void, *mut c_void),
        count: usize,
        kind: DataType,
        root: usize,
        stream: &CudaStream,
    ) -> Result<(), Error> {
        let root = small("ncclBroadcast", "root", root)?;
        self.call("ncclBroadcast", |handle| {
            let function = self.inner.library.0.broadcast;
            // SAFETY: the caller's promise; the communicator is alive under the lock.
            unsafe { function(send, receive, count, kind.code(), root, handle, stream.raw()) }
        })
    }

    /// The error that NCCL found since the last question, e.g. a peer that is gone.
    ///
    /// Also `Ok` while a call of another thread is under way, so that a watcher never waits for it.
    pub fn async_error(&self) -> Result<(), Error> {
        const CALL: &str = "ncclCommGetAsyncError";
        let handle = match self.inner.handle.try_lock() {
            Ok(handle) => handle,
            Err(std::sync::TryLockError::WouldBlock) => return Ok(()),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        };
        match self.inner.state(CALL, &handle)? {
            NCCL_SUCCESS | NCCL_IN_PROGRESS => Ok(()),
            code => Err(self.inner.error(CALL, code, handle.0)),
        }
    }

    /// Ends all that runs on this communicator, here; it cannot be used afterwards.
    ///
    /// The work is done by a helper thread. If it is not done within `timeout`, that thread is left to
    /// itself and the answer is an error: NCCL, or the driver below it, is stuck.
    pub fn abort(&self, timeout: Duration) -> Result<(), Error> {
        self.inner.abort(timeout)
    }

    /// Calls NCCL under the lock, and waits until the call has taken effect on the host.
    fn call(&self, call: &'static str, work: impl FnOnce(ffi::RawComm) -> c_int) -> Result<(), Error> {
        let handle = self.inner.lock();
        if handle.0.is_null() {
            return Err(Error::Aborted { call });
        }
        match work(handle.0) {
            NCCL_SUCCESS => Ok(()),
            NCCL_IN_PROGRESS => {
                drop(handle);
                self.settle(call, self.timeout)
            }
            code => Err(self.inner.error(call, code, handle.0)),
        }
    }

    fn settle(&self, call: &'static str, timeout: Duration) -> Result<(), Error> {
        let begin = Instant::now();
        loop {
            let handle = self.inner.lock();
            match self.inner.state(call, &handle)? {
                NCCL_SUCCESS => return Ok(()),
                NCCL_IN_PROGRESS if begin.elapsed() <= timeout => {}
                NCCL_IN_PROGRESS => {
                    self.inner.failed.store(true, Ordering::Relaxed);
                    return Err(Error::TimedOut { call, timeout });
                }
                code => return Err(self.inner.error(call, code, handle.0)),
            }
            drop(handle);
            std::thread::sleep(POLL);
        }
    }

    /// Says goodbye to the other ranks. False if that did not work.
    fn finish(&self) -> bool {
        let functions = &self.inner.library.0;
        let handle = self.inner.lock();
        // SAFETY: the communicator is alive under the lock.
        let code = unsafe { (functions.finalize)(handle.0) };
        drop(handle);
        let said = code == NCCL_SUCCESS || code == NCCL_IN_PROGRESS;
        if !said || self.settle("ncclCommFinalize", GOODBYE).is_err() {
            return false;
        }
        let mut handle = self.inner.lock();
        // SAFETY: finalised, and nobody uses it after the lock is released, since it is null then.
        unsafe { (functions.destroy)(handle.0) };
        handle.0 = std::ptr::null_mut();
        true
    }
}

/// Stands for a call that was not made; no code of NCCL's.
const ABORTED: c_int = -1;

impl Inner {
    /// A panic of another thread leaves the handle as it was.
    fn lock(&self) -> MutexGuard<'_, Handle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, call: &'static str, handle: &Handle) -> Result<c_int, Error> {
        if handle.0.is_null() {
            return Err(Error::Aborted { call });
        }
        let mut state: c_int = 0;
        // SAFETY: the communicator is alive under the lock, and one integer is written.
        let code = unsafe { (self.library.0.async_error)(handle.0, &raw mut state) };
        if code == NCCL_SUCCESS { Ok(state) } else { Err(self.error(call, code, handle.0)) }
    }

    fn error(&self, call: &'static str, code: c_int, handle: ffi::RawComm) -> Error {
        self.failed.store(true, Ordering::Relaxed);
        self.library.0.error(call, code, handle)
    }

    fn abort(self: &Arc<Self>, timeout: Duration) -> Result<(), Error> {
        const CALL: &str = "ncclCommAbort";
        let (done, outcome) = mpsc::channel();
        let inner = self.clone();
        let helper = std::thread::Builder::new().name("nccl-abort".to_owned()).spawn(move || {
            // Taken out first: other threads shall see that it is gone, not wait for the abort.
            let handle = std::mem::replace(&mut *inner.lock(), Handle(std::ptr::null_mut()));
            let code = if handle.0.is_null() {
                NCCL_SUCCESS
            } else {
                // SAFETY: alive, and nobody else has it any more.
                unsafe { (inner.library.0.abort)(handle.0) }
            };
            let _ = done.send(code);
        });
        if helper.is_err() {
            return Err(Error::TimedOut { call: CALL, timeout: Duration::ZERO });
        }
        match outcome.recv_timeout(timeout) {
            Ok(NCCL_SUCCESS | NCCL_IN_PROGRESS) => Ok(()),
            Ok(code) => Err(self.library.0.error(CALL, code, std::ptr::null_mut())),
            Err(_) => Err(Error::TimedOut { call: CALL, timeout }),
        }
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        let gone = match self.inner.handle.try_lock() {
            Ok(handle) => handle.0.is_null(),
            Err(_) => false,
        };
        if gone || (!self.inner.failed.load(Ordering::Relaxed) && self.finish()) {
            return;
        }
        // Nothing more can be done if this fails too; the process may go on without what is leaked.
        let _ = self.inner.abort(GOODBYE);
    }
}

/// NCCL's integers have 32 bits.
fn small(call: &'static str, what: &'static str, value: usize) -> Result<c_int, Error> {
    c_int::try_from(value).map_err(|_| Error::Argument {
        call,
        what,
        expected: format!("at most {}", c_int::MAX),
        found: value.to_string(),
    })
}
