//! Threads that read images before the decoder asks for them, in the order in which the loader announces them.
//!
//! A file on a network file system takes milliseconds, in which a decoding thread would wait. These threads only wait,
//! so many of them cost nothing. An image that none of them has begun is read by whoever needs it.

use super::ImageReader;
use super::layered::kept;
use crate::data::error::DataError;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Limits on the images that are announced or read and not yet taken. Above them the oldest are dropped: a loader that
/// ends early does not take all that it has announced.
const MOST_IMAGES: usize = 1 << 14;
const MOST_BYTES: usize = 1 << 30;

/// Images that are read ahead.
pub(super) struct ReadAhead {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Arc<dyn ImageReader>,
    state: Mutex<State>,
    /// Something was announced, or the threads shall end.
    work: Condvar,
    /// An image was read.
    ready: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    /// Announced images that no thread has begun.
    waiting: VecDeque<usize>,
    images: HashMap<usize, Image>,
    /// Images in the order in which they were read.
    order: VecDeque<usize>,
    bytes: usize,
}

enum Image {
    Waiting,
    Reading,
    Read(Result<Vec<u8>, DataError>),
}

impl ReadAhead {
    /// Starts the threads. A thread that cannot be started is missing: reading works with any number.
    pub(super) fn start(inner: Arc<dyn ImageReader>, threads: usize) -> Self {
        let state = Mutex::new(State::default());
        let shared = Arc::new(Shared { inner, state, work: Condvar::new(), ready: Condvar::new() });
        for number in 0..threads {
            let own = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("read-{number}"));
            if let Err(error) = thread.spawn(move || own.run()) {
                tracing::warn!("cannot start thread {number} of {threads} that read ahead: {error}");
                break;
            }
        }
        Self { shared }
    }

    /// Adds images to read.
    pub(super) fn announce(&self, indices: &mut dyn Iterator<Item = usize>) {
        let mut state = self.shared.lock();
        for index in indices {
            if state.waiting.len() < MOST_IMAGES && !state.images.contains_key(&index) {
                state.images.insert(index, Image::Waiting);
                state.waiting.push_back(index);
            }
        }
        drop(state);
        self.shared.work.notify_all();
    }

    /// The bytes of an image that was read or is being read; none if no thread has begun it.
    pub(super) fn take(&self, index: usize) -> Option<Result<Vec<u8>, DataError>> {
        let mut state = self.shared.lock();
        loop {
            match state.images.get(&index)? {
                Image::Waiting => {
                    state.images.remove(&index);
                    return None;
                }
                Image::Reading => {
                    state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Image::Read(_) => return state.remove(index),
            }
        }
    }
}

impl Drop for ReadAhead {
    /// The threads end after their current read, which may take any time; nobody waits for them.
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            if state.stop {
                return;
            }
            let Some(index) = state.waiting.pop_front() else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            // Whoever needed it meanwhile has read it.
            if !matches!(state.images.get(&index), Some(Image::Waiting)) {
                continue;
            }
            state.images.insert(index, Image::Reading);
            drop(state);
            let read = catch_unwind(AssertUnwindSafe(|| self.read(index)));
            state = self.lock();
            match read {
                Ok(read) => state.add(index, read),
                // The panic repeats where the image is needed, and is reported there.
                Err(_) => drop(state.images.remove(&index)),
            }
            self.ready.notify_all();
        }
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        self.inner.stored(index, &mut |stored| bytes = kept(stored))?;
        Ok(bytes)
    }
}

impl State {
    fn add(&mut self, index: usize, read: Result<Vec<u8>, DataError>) {
        self.bytes += read.as_ref().map_or(0, Vec::len);
        self.images.insert(index, Image::Read(read));
        self.order.push_back(index);
        while self.order.len() > MOST_IMAGES || self.bytes > MOST_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            drop(self.remove(oldest));
        }
    }

    /// Removes an image that was read. Its place in the order goes with the next one that is too many.
    fn remove(&mut self, index: usize) -> Option<Result<Vec<u8>, DataError>> {
        if !matches!(self.images.get(&index), Some(Image::Read(_))) {
            return None;
        }
        let Some(Image::Read(read)) = self.images.remove(&index) else { return None };
        self.bytes -= read.as_ref().map_or(0, Vec::len);
        if self.images.is_empty() {
            self.order.clear();
        }
        Some(read)
    }
}
