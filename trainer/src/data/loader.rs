//! Batches prepared ahead of the training step, by threads that live as long as the run.
//!
//! The loader takes an iterator of [`BatchRequest`]s (which samples, at which positions of the global order)
//! and returns one [`Batch`] for each, in the same order, independent of the order in which they complete.
//!
//! # How the threads work together
//!
//! All workers share one queue of open batches, behind one lock. A worker that finds no work and fewer than
//! `prefetch` open batches opens a batch: it takes the next request and allocates the pixels, split into
//! chunks of several items. Workers take chunks from the oldest batch first, fill them without the lock, and
//! return them; the worker that returns the last chunk of a batch joins the chunks (they are parts of one
//! allocation) and marks the batch complete. The consumer waits only for the oldest batch and removes it from
//! the queue, which makes room for another.
//!
//! Workers wait on `work` (a batch was taken or opened), the consumer on `ready` (a batch is complete, or
//! there is no further request). Nothing else is waited for, so one live worker is enough for progress.
//! An image that cannot be read is left out of its batch, and the batch lists it: the consumer decides how many are
//! acceptable. A panic in a worker is caught and becomes the error of its batch. Dropping the loader sets `stop`, which
//! workers check before every item, and joins them. A worker that is blocked in a read is reported while its batch is
//! waited for, and detached when the loader is dropped.

mod batch;
mod reading;
#[cfg(test)]
mod tests;
mod waiting;

pub use batch::{Batch, BatchRequest, Item, Skipped};
pub use waiting::WaitReasons;

use super::error::DataError;
use super::source::Split;
use super::transform::{ImageView, Scratch};
use batch::{BatchChunk, PendingBatch};
use reading::Reading;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use waiting::{Stage, Stages, Wait};

/// Time between two looks at the workers while a batch is waited for.
const LOOK: Duration = Duration::from_millis(20);
/// How long a dropped loader waits for its workers: longer than it takes to read and transform any image.
const PARTING: Duration = Duration::from_secs(2);

/// Settings of a loader.
#[derive(Clone, Copy, Debug)]
pub struct LoaderOptions {
    /// Number of threads; at least one is started.
    pub workers: usize,
    /// Limit on batches that are open or complete at a time; it determines the memory. At least one.
    pub prefetch: usize,
}

/// Returns batches in the order of their requests. See the module documentation.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

type Requests = Box<dyn Iterator<Item = BatchRequest> + Send>;

struct Shared {
    split: Arc<Split>,
    view: ImageView,
    options: LoaderOptions,
    queue: Mutex<Queue>,
    work: Condvar,
    ready: Condvar,
    stop: AtomicBool,
    reading: Reading,
    stages: Stages,
}

struct Queue {
    /// None when there is no further request.
    requests: Option<Requests>,
    /// Batches not yet taken, oldest first.
    open: VecDeque<PendingBatch>,
    /// Number of the oldest one.
    first: u64,
}

impl Loader {
    /// Starts the threads. They begin to work at once.
    pub fn start(
        split: Arc<Split>,
        view: ImageView,
        requests: impl Iterator<Item = BatchRequest> + Send + 'static,
        options: LoaderOptions,
    ) -> Result<Self, DataError> {
        let queue = Queue { requests: Some(Box::new(requests)), open: VecDeque::new(), first: 0 };
        let shared = Arc::new(Shared {
            split,
            view,
            options,
            queue: Mutex::new(queue),
            work: Condvar::new(),
            ready: Condvar::new(),
            stop: AtomicBool::new(false),
            reading: Reading::new(options.workers.max(1)),
            stages: Stages::new(options.workers.max(1)),
        });
        let mut loader = Self { shared, workers: Vec::new() };
        for number in 0..options.workers.max(1) {
            let shared = loader.shared.clone();
            let thread = std::thread::Builder::new().name(format!("data-{number}"));
            let worker = thread.spawn(move || shared.work(number));
            loader.workers.push(worker.map_err(|error| {
                DataError::Setting(format!(
                    "cannot start data worker {number} of {}: {error}",
                    options.workers
                ))
            })?);
        }
        Ok(loader)
    }

    /// Ends this loader from another thread.
    pub fn stopper(&self) -> LoaderStop {
        LoaderStop(Arc::clone(&self.shared))
    }

    /// The batch of the next request. `None` after the last request and after an error.
    ///
    /// An image that cannot be read is no error: the batch lists it in `skipped`. Errors are a panic of a worker, or a
    /// request outside of the data.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would invite adapters that hide the waiting"
    )]
    pub fn next(&mut self) -> Option<Result<Batch, DataError>> {
        let (start, mut wait) = (Instant::now(), Wait::default());
        let mut queue = self.shared.lock();
        loop {
            if self.shared.stop.load(Ordering::Acquire) {
                return None;
            }
            if let Some(result) = queue.open.front_mut().and_then(|batch| batch.result.take()) {
                queue.open.pop_front();
                queue.first += 1;
                if result.is_err() {
                    self.shared.stop.store(true, Ordering::Release);
                }
                drop(queue);
                self.shared.work.notify_all();
                return Some(result.map(|batch| Batch { waited: wait.reasons(start.elapsed()), ..batch }));
            }
            if queue.open.is_empty() && queue.requests.is_none() {
                return None;
            }
            wait.look(&self.shared.stages);
            let (waited, waiting) =
                self.shared.ready.wait_timeout(queue, LOOK).unwrap_or_else(PoisonError::into_inner);
            queue = waited;
            if waiting.timed_out() {
                drop(queue);
                self.shared.reading.report_slow(&self.shared.split);
                queue = self.shared.lock();
            }
        }
    }
}

/// Ends a loader from another thread.
#[derive(Clone)]
pub struct LoaderStop(Arc<Shared>);

impl std::fmt::Debug for LoaderStop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoaderStop")
    }
}

impl LoaderStop {
    /// Workers end after their item, and `next` returns `None`, also to a thread that waits in it.
    pub fn stop(&self) {
        {
            // Under the lock, so that no thread is between its check of `stop` and its wait.
            let _queue = self.0.lock();
            self.0.stop.store(true, Ordering::Release);
        }
        self.0.work.notify_all();
        self.0.ready.notify_all();
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stopper().stop();
        let start = Instant::now();
        for worker in self.workers.drain(..) {
            while !worker.is_finished() && start.elapsed() < PARTING {
                std::thread::sleep(Duration::from_millis(1));
            }
            if worker.is_finished() {
                // Panics were caught in the worker.
                let _ = worker.join();
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The main loop of a worker.
    fn work(&self, worker: usize) {
        let mut scratch = Scratch::default();
        let mut queue = self.lock();
        loop {
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            if let Some((number, chunk)) = queue.take_chunk() {
                drop(queue);
                let filled = self.fill(worker, chunk, &mut scratch);
                queue = self.finish(number, filled);
            } else if queue.requests.is_none() {
                return;
            } else if queue.open.len() < self.options.prefetch.max(1) {
                self.open_batch(&mut queue);
            } else {
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Takes the next request and opens a batch for it.
    fn open_batch(&self, queue: &mut Queue) {
        let next = catch_unwind(AssertUnwindSafe(|| queue.requests.as_mut().and_then(Iterator::next)));
        match next {
            Ok(Some(request)) => {
                let samples = request.items.iter().filter_map(|item| usize::try_from(item.sample).ok());
                self.split.announce(&mut samples.filter(|&index| index < self.split.len()));
                queue.open.push_back(PendingBatch::new(request, self.view.bytes(), self.options.workers));
                self.work.notify_all();
            }
            Ok(None) => queue.requests = None,
            Err(panic) => {
                queue.requests = None;
                let name = "(none: the order of samples was asked)".to_owned();
                queue.open.push_back(PendingBatch::failed(DataError::Panicked {
                    name,
                    message: message_of(&*panic),
                }));
            }
        }
        if queue.requests.is_none() || queue.open.back().is_some_and(|batch| batch.result.is_some()) {
            self.ready.notify_all();
            self.work.notify_all();
        }
    }

    /// Reads and transforms the items of a chunk.
    fn fill(&self, worker: usize, mut chunk: BatchChunk, scratch: &mut Scratch) -> BatchChunk {
        let bytes = self.view.bytes();
        for place in 0..chunk.range.len() {
            if self.stop.load(Ordering::Acquire) {
                break;
            }
            let item = chunk.items[chunk.range.start + place];
            let out = &mut chunk.pixels[place * bytes..][..bytes];
            self.reading.set(worker, usize::try_from(item.sample).ok());
            let one = || self.fill_one(worker, item, chunk.epoch, scratch, out);
            let outcome = catch_unwind(AssertUnwindSafe(one));
            let failure = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                Err(panic) => {
                    *scratch = Scratch::default();
                    let name = format!("sample {}", item.sample);
                    DataError::Panicked { name, message: message_of(&*panic) }
                }
            };
            chunk.failures.push((chunk.range.start + place, failure));
        }
        self.reading.set(worker, None);
        self.stages.set(worker, Stage::Idle);
        chunk.work = scratch.take_work();
        chunk
    }

    fn fill_one(
        &self,
        worker: usize,
        item: Item,
        epoch: u64,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<(), DataError> {
        let index = self.index(item)?;
        let mut written = Ok(());
        self.stages.set(worker, Stage::Read);
        let start = Instant::now();
        self.split.stored(index, &mut |stored| {
            self.stages.set(worker, Stage::Decode);
            scratch.add_read(start.elapsed());
            written = self.view.write(stored, (epoch, item.position), scratch, out);
        })?;
        written.map_err(|error| DataError::image(self.split.name(index), error))
    }

    fn index(&self, item: Item) -> Result<usize, DataError> {
        usize::try_from(item.sample).ok().filter(|&index| index < self.split.len()).ok_or_else(|| {
            let (sample, len) = (item.sample, self.split.len());
            DataError::Setting(format!("sample {sample} was requested, but the split has {len}"))
        })
    }

    /// Returns a chunk; the last one of a batch completes the batch.
    fn finish(&self, number: u64, chunk: BatchChunk) -> MutexGuard<'_, Queue> {
        let mut queue = self.lock();
        let Some(batch) = queue.batch(number) else { return queue };
        if !batch.give_back(chunk) {
            return queue;
        }
        let chunks = batch.take_chunks();
        drop(queue);
        let join = || batch::join(chunks, &self.split, self.view.bytes());
        let result = catch_unwind(AssertUnwindSafe(join)).unwrap_or_else(|panic| {
            Err(DataError::Panicked { name: "(a whole batch)".into(), message: message_of(&*panic) })
        });
        let mut queue = self.lock();
        if let Some(batch) = queue.batch(number) {
            batch.result = Some(result);
        }
        self.ready.notify_all();
        queue
    }
}

impl Queue {
    /// The oldest chunk that no worker has taken, with the number of its batch.
    fn take_chunk(&mut self) -> Option<(u64, BatchChunk)> {
        let first = self.first;
        self.open.iter_mut().zip(first..).find_map(|(batch, number)| Some((number, batch.waiting.pop()?)))
    }

    fn batch(&mut self, number: u64) -> Option<&mut PendingBatch> {
        self.open.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_owned()
}
