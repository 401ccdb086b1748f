//! Communicators: creation, split and abort.

use crate::board::{Board, wait};
use crate::fault::{self, StandInFaultKind};
use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

pub(crate) const SUCCESS: c_int = 0;
pub(crate) const SYSTEM_ERROR: c_int = 2;
pub(crate) const INVALID_ARGUMENT: c_int = 4;
pub(crate) const INVALID_USAGE: c_int = 5;
pub(crate) const REMOTE_ERROR: c_int = 6;
pub(crate) const IN_PROGRESS: c_int = 7;

/// One rank of a communicator. The handle of the program is a box with an `Arc` of this.
pub(crate) struct StandInComm {
    /// Set once all ranks have joined.
    pub(crate) board: OnceLock<Board>,
    pub(crate) rank: usize,
    pub(crate) size: usize,
    pub(crate) blocking: bool,
    /// The result of `ncclCommGetAsyncError`.
    state: AtomicI32,
    pub(crate) aborted: AtomicBool,
    /// Number of queued or running calls and of background threads.
    pub(crate) busy: AtomicUsize,
    /// Number of rounds so far.
    pub(crate) rounds: Mutex<u64>,
    /// Number of splits so far.
    splits: Mutex<u64>,
    /// Whether a collective was called: on a non-blocking communicator, the first one returns "in progress", like NCCL.
    pub(crate) used: AtomicBool,
}

/// Text of the last error, for `ncclGetLastError`. Never freed, because programs may keep the pointer.
static LAST_ERROR: AtomicPtr<c_char> = AtomicPtr::new(std::ptr::null_mut());

pub(crate) fn set_last_error(text: &str) {
    let text = CString::new(text).unwrap_or_default();
    LAST_ERROR.store(text.into_raw(), Ordering::Release);
}

pub(crate) fn last_error() -> *const c_char {
    let text = LAST_ERROR.load(Ordering::Acquire);
    if text.is_null() { CStr::as_ptr(c"") } else { text }
}

impl StandInComm {
    fn new(rank: usize, size: usize, blocking: bool) -> Arc<Self> {
        Arc::new(Self {
            board: OnceLock::new(),
            rank,
            size,
            blocking,
            state: AtomicI32::new(IN_PROGRESS),
            aborted: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            rounds: Mutex::new(0),
            splits: Mutex::new(0),
            used: AtomicBool::new(false),
        })
    }

    /// Joins in the background; the outcome becomes the state of the communicator.
    pub(crate) fn start(path: PathBuf, rank: usize, size: usize, blocking: bool) -> Arc<Self> {
        let comm = Self::new(rank, size, blocking);
        comm.in_background(move |joining| {
            let hangs = fault::at_init() == Some(StandInFaultKind::InitHang);
            if hangs {
                wait(|| false, || joining.is_aborted());
            }
            joining.join(&path);
        });
        comm
    }

    fn join(&self, path: &Path) {
        match Board::join(path, self.size, || self.is_aborted()) {
            Ok(Some(board)) => {
                let _ = self.board.set(board);
                self.finish(SUCCESS);
            }
            Ok(None) => {}
            Err(error) => {
                set_last_error(&format!("stand-in: {}: {error}", path.display()));
                self.finish(SYSTEM_ERROR);
            }
        }
    }

    /// Runs `work` on a background thread, which counts as busy.
    pub(crate) fn in_background(self: &Arc<Self>, work: impl FnOnce(&Arc<Self>) + Send + 'static) {
        self.busy.fetch_add(1, Ordering::AcqRel);
        let comm = self.clone();
        std::thread::spawn(move || {
            work(&comm);
            comm.busy.fetch_sub(1, Ordering::AcqRel);
        });
    }

    pub(crate) fn state(&self) -> c_int {
        self.state.load(Ordering::Acquire)
    }

    /// Replaces the state "in progress"; keeps an error.
    fn finish(&self, state: c_int) {
        let _ = self.state.compare_exchange(IN_PROGRESS, state, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Sets an asynchronous error.
    pub(crate) fn fail(&self, code: c_int, text: &str) {
        set_last_error(text);
        self.state.store(code, Ordering::Release);
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// Waits until the communicator is ready or has failed.
    pub(crate) fn ready(&self) -> c_int {
        wait(|| self.state() != IN_PROGRESS, || self.is_aborted());
        self.state()
    }

    /// Aborts all operations and waits for their end.
    pub(crate) fn abort(&self) {
        while fault::abort_hangs() {
            std::thread::sleep(Duration::from_hours(1));
        }
        self.aborted.store(true, Ordering::Release);
        self.drain();
    }

    /// Waits until no operation runs.
    pub(crate) fn drain(&self) {
        wait(|| self.busy.load(Ordering::Acquire) == 0, || false);
    }

    /// Starts a split by color. Writes the handle of the new communicator into `created`, unless the split fails.
    pub(crate) fn split(self: &Arc<Self>, color: i64, key: i64, created: &'static AtomicPtr<Arc<Self>>) {
        self.state.store(IN_PROGRESS, Ordering::Release);
        self.in_background(move |parent| {
            if let Some((path, rank, size)) = parent.members(color, key) {
                let child = Self::start(path, rank, size, parent.blocking);
                if !wait(|| child.state() != IN_PROGRESS, || parent.is_aborted()) {
                    child.aborted.store(true, Ordering::Release);
                }
                created.store(Box::into_raw(Box::new(child)), Ordering::Release);
            }
            parent.finish(SUCCESS);
        });
    }

    /// Posts color and key of this rank, and returns path, rank and size of its new communicator.
    fn members(&self, color: i64, key: i64) -> Option<(PathBuf, usize, usize)> {
        let board = self.board.get()?;
        let mut number = self.splits.lock().unwrap_or_else(PoisonError::into_inner);
        let all_read = |number| board.lines().all(|line| line.split_read.load(Ordering::Acquire) >= number);
        wait(|| all_read(*number), || self.is_aborted()).then_some(())?;
        *number += 1;
        let own = board.line(self.rank);
        own.color.store(color, Ordering::Relaxed);
        own.key.store(key, Ordering::Relaxed);
        own.split_posted.store(*number, Ordering::Release);
        let all_posted = || board.lines().all(|line| line.split_posted.load(Ordering::Acquire) >= *number);
        wait(all_posted, || self.is_aborted()).then_some(())?;
        let colors_and_keys =
            board.lines().map(|l| (l.color.load(Ordering::Relaxed), l.key.load(Ordering::Relaxed)));
        let same = colors_and_keys.enumerate().filter(|(_, (other, _))| *other == color);
        let mut members: Vec<(i64, usize)> = same.map(|(rank, (_, key))| (key, rank)).collect();
        members.sort_unstable();
        own.split_read.store(*number, Ordering::Release);
        let place = members.iter().position(|&(_, rank)| rank == self.rank)?;
        let mut name = board.path().as_os_str().to_owned();
        name.push(format!("-{number}-{color}"));
        Some((PathBuf::from(name), place, members.len()))
    }
}
