//! Communicators: creation, collectives, asynchronous errors and abort.

use crate::error::Error;
use crate::ffi::{self, NCCL_IN_PROGRESS, NCCL_SUCCESS, RawConfig};
use crate::library::Library;
use crate::runtime::CudaStream;
use crate::values::{DataType, RedOp, UniqueId};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Polling interval for the end of a call.
const POLL: Duration = Duration::from_micros(200);
/// Timeout for finalising a dropped communicator, and for aborting it if that fails.
const FINALISE_TIMEOUT: Duration = Duration::from_secs(3);

/// A communicator: a group of ranks that exchange data, and the rank of this process in it.
///
/// Communicators are non-blocking: a call that waits for other ranks fails after the `timeout` of
/// [`init_rank`](Self::init_rank). Threads can share a communicator. All ranks must make the same collective calls in
/// the same order.
///
/// Dropping a communicator finalises it, or aborts it after an error. Both take a few seconds at most.
pub struct Communicator {
    inner: Arc<Inner>,
    timeout: Duration,
    rank: usize,
    size: usize,
}

struct Inner {
    library: Library,
    /// Null after an abort. NCCL frees a communicator when it aborts it, so every call holds the lock.
    handle: Mutex<Handle>,
    failed: AtomicBool,
}

#[derive(Clone, Copy)]
struct Handle(ffi::RawComm);

// SAFETY: any thread may use a communicator; the lock around it admits one thread at a time.
unsafe impl Send for Handle {}

impl Communicator {
    /// Joins the communicator `id` as `rank` of `size`, with the device of the calling thread.
    ///
    /// Returns when all ranks have joined. After `timeout` it aborts the communicator and returns an error.
    pub fn init_rank(
        library: &Library,
        id: &UniqueId,
        (rank, size): (usize, usize),
        timeout: Duration,
    ) -> Result<Self, Error> {
        const CALL: &str = "ncclCommInitRankConfig";
        let (number, count) = (to_c_int(CALL, "rank", rank)?, to_c_int(CALL, "size", size)?);
        Self::create(library, (rank, size), CALL, timeout, |slot| {
            let mut config = RawConfig::non_blocking();
            // SAFETY: `slot` stays allocated while NCCL creates the communicator; NCCL copies `config`.
            unsafe { (library.0.init_rank_config)(slot, count, id.raw(), number, &raw mut config) }
        })
    }

    /// Splits the communicator: ranks with the same `color` form a new one, ordered by `key` and then by rank.
    /// `place` is the rank of this process in the new communicator, and its size; the caller must know them.
    pub fn split(&self, color: usize, key: usize, place: (usize, usize)) -> Result<Self, Error> {
        const CALL: &str = "ncclCommSplit";
        let function = self.inner.library.split()?;
        let (color, key) = (to_c_int(CALL, "color", color)?, to_c_int(CALL, "key", key)?);
        Self::create(&self.inner.library, place, CALL, self.timeout, |slot| {
            let mut config = RawConfig::non_blocking();
            let outcome = self.call(CALL, |handle| {
                // SAFETY: the parent is alive under the lock; `slot` stays allocated while NCCL creates the child.
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

    /// Calls `start`, which creates a communicator asynchronously, and waits until it is ready.
    fn create(
        library: &Library,
        (rank, size): (usize, usize),
        call: &'static str,
        timeout: Duration,
        start: impl FnOnce(*mut ffi::RawComm) -> c_int,
    ) -> Result<Self, Error> {
        let begin = Instant::now();
        // NCCL may write the handle at any later time, even after a timeout; the slot is leaked then.
        let slot = Box::into_raw(Box::new(AtomicPtr::<c_void>::new(std::ptr::null_mut())));
        let code = start(slot.cast::<ffi::RawComm>());
        if code == ABORTED {
            return Err(Error::Aborted { call });
        }
        if code != NCCL_SUCCESS && code != NCCL_IN_PROGRESS {
            return Err(library.0.error(call, code, std::ptr::null_mut()));
        }
        // SAFETY: the slot is not freed before the end of this function.
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
        let communicator = Self { inner: Arc::new(inner), timeout, rank, size };
        communicator.wait_until_done(call, timeout.saturating_sub(begin.elapsed()))?;
        // SAFETY: the pointer comes from Box::into_raw above; NCCL no longer writes it once the communicator is ready.
        drop(unsafe { Box::from_raw(slot) });
        Ok(communicator)
    }

    /// Rank of this process, `0..size`.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.size
    }

    /// All-reduces `count` elements at `send` into `receive`, on `stream`.
    ///
    /// # Safety
    /// Both pointers must point to `count` elements that the device of `stream` can access, and be equal or not
    /// overlap. Until the stream has completed this call, nothing else may write or free them, or read `receive`.
    /// Every rank must pass the same `count`, `kind` and `op`.
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
            // SAFETY: guaranteed by the caller; the communicator is alive under the lock.
            unsafe { function(send, receive, count, kind.code(), op.code(), handle, stream.raw()) }
        })
    }

    /// All-gathers `count` elements at `send` of every rank into `receive`, in rank order.
    ///
    /// # Safety
    /// As for [`all_reduce`](Self::all_reduce), but `receive` must point to `count * size` elements, and `send` must
    /// not overlap with it or be this rank's part of it.
    pub unsafe fn all_gather(
        &self,
        (send, receive): (*const c_void, *mut c_void),
        count: usize,
        kind: DataType,
        stream: &CudaStream,
    ) -> Result<(), Error> {
        self.call("ncclAllGather", |handle| {
            let function = self.inner.library.0.all_gather;
            // SAFETY: guaranteed by the caller; the communicator is alive under the lock.
            unsafe { function(send, receive, count, kind.code(), handle, stream.raw()) }
        })
    }

    /// Reduce-scatters `count * size` elements at `send`: each rank receives the `count` elements of its rank at
    /// `receive`.
    ///
    /// # Safety
    /// As for [`all_reduce`](Self::all_reduce), but `send` must point to `count * size` elements, and `receive` must
    /// not overlap with it or be this rank's part of it.
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
            // SAFETY: guaranteed by the caller; the communicator is alive under the lock.
            unsafe { function(send, receive, count, kind.code(), op.code(), handle, stream.raw()) }
        })
    }

    /// Broadcasts `count` elements at `send` of rank `root` to `receive` of all ranks.
    ///
    /// # Safety
    /// As for [`all_reduce`](Self::all_reduce); only rank `root` reads `send`, and `root` must be the same on all
    /// ranks.
    pub unsafe fn broadcast(
        &self,
        (send, receive): (*const c_void, *mut c_void),
        count: usize,
        kind: DataType,
        root: usize,
        stream: &CudaStream,
    ) -> Result<(), Error> {
        let root = to_c_int("ncclBroadcast", "root", root)?;
        self.call("ncclBroadcast", |handle| {
            let function = self.inner.library.0.broadcast;
            // SAFETY: guaranteed by the caller; the communicator is alive under the lock.
            unsafe { function(send, receive, count, kind.code(), root, handle, stream.raw()) }
        })
    }

    /// Returns the asynchronous error of NCCL, if there is one, e.g. after the death of a peer.
    ///
    /// Returns `Ok` while another thread makes a call, so that a watcher never waits for that call.
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

    /// Aborts all operations of this communicator on this rank; it is unusable afterwards.
    ///
    /// A helper thread makes the call. If it does not return within `timeout`, because NCCL or the driver is stuck, the
    /// thread is detached and this function returns an error.
    pub fn abort(&self, timeout: Duration) -> Result<(), Error> {
        self.inner.abort(timeout)
    }

    /// Calls NCCL under the lock, and waits until the call is no longer in progress on the host.
    fn call(&self, call: &'static str, work: impl FnOnce(ffi::RawComm) -> c_int) -> Result<(), Error> {
        let handle = self.inner.lock();
        if handle.0.is_null() {
            return Err(Error::Aborted { call });
        }
        match work(handle.0) {
            NCCL_SUCCESS => Ok(()),
            NCCL_IN_PROGRESS => {
                drop(handle);
                self.wait_until_done(call, self.timeout)
            }
            code => Err(self.inner.error(call, code, handle.0)),
        }
    }

    fn wait_until_done(&self, call: &'static str, timeout: Duration) -> Result<(), Error> {
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

    /// Finalises and destroys the communicator. Returns false if that fails.
    fn finalise(&self) -> bool {
        let functions = &self.inner.library.0;
        let handle = self.inner.lock();
        // SAFETY: the communicator is alive under the lock.
        let code = unsafe { (functions.finalize)(handle.0) };
        drop(handle);
        let started = code == NCCL_SUCCESS || code == NCCL_IN_PROGRESS;
        if !started || self.wait_until_done("ncclCommFinalize", FINALISE_TIMEOUT).is_err() {
            return false;
        }
        let mut handle = self.inner.lock();
        // SAFETY: the communicator is finalised, and the handle is null before the lock is released.
        unsafe { (functions.destroy)(handle.0) };
        handle.0 = std::ptr::null_mut();
        true
    }
}

/// Marks a call that was not made; not a code of NCCL.
const ABORTED: c_int = -1;

impl Inner {
    /// Ignores poisoning: a panic of another thread leaves the handle valid.
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
            // Takes the handle first, so that other threads see the abort instead of waiting for it.
            let handle = std::mem::replace(&mut *inner.lock(), Handle(std::ptr::null_mut()));
            let code = if handle.0.is_null() {
                NCCL_SUCCESS
            } else {
                // SAFETY: the communicator is alive, and no other thread holds the handle.
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
        let aborted = match self.inner.handle.try_lock() {
            Ok(handle) => handle.0.is_null(),
            Err(_) => false,
        };
        if aborted || (!self.inner.failed.load(Ordering::Relaxed) && self.finalise()) {
            return;
        }
        // If this fails too, the communicator is leaked and the process continues.
        let _ = self.inner.abort(FINALISE_TIMEOUT);
    }
}

/// Converts to the 32-bit integers of NCCL.
fn to_c_int(call: &'static str, what: &'static str, value: usize) -> Result<c_int, Error> {
    c_int::try_from(value).map_err(|_| Error::Argument {
        call,
        what,
        expected: format!("at most {}", c_int::MAX),
        found: value.to_string(),
    })
}
