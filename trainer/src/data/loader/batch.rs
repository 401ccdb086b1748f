//! Requests to the loader, the batches that it returns, and the chunks in between.

use super::waiting::WaitReasons;
use crate::data::error::DataError;
use crate::data::source::Split;
use crate::data::transform::Work;
use bytes::BytesMut;
use std::ops::Range;
use std::sync::Arc;

/// A sample at a position of the global order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Position in the epoch; random draws are keyed by it.
    pub position: u64,
    /// Index in the split.
    pub sample: u64,
}

/// The samples of one batch; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchRequest {
    /// The epoch; random draws are keyed by it.
    pub epoch: u64,
    /// The samples, in the order of the batch.
    pub items: Vec<Item>,
}

/// A batch for the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The epoch of the request.
    pub epoch: u64,
    /// Images one after the other, each as the crops of its view, channel by channel:
    /// `len * crops * 3 * size * size` bytes.
    pub images: Vec<u8>,
    /// Their classes.
    pub labels: Vec<i64>,
    /// Their indices in the split.
    pub samples: Vec<u64>,
    /// Their positions in the epoch.
    pub positions: Vec<u64>,
    /// Requested images that could not be read.
    pub skipped: Vec<Skipped>,
    /// Time that the workers spent on it.
    pub work: Work,
    /// For what its consumer waited.
    pub waited: WaitReasons,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// An image that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its index in the split.
    pub sample: u64,
    /// Its position in the epoch.
    pub position: u64,
    /// Its path, or its position in a file.
    pub path: String,
    /// The problem.
    pub reason: String,
}

/// Limit on the items that a worker takes at a time, so that workers share the last items of a batch.
const MAX_CHUNK: usize = 32;

/// Chunks of a batch for each worker: enough to even out slow images.
const CHUNKS_PER_WORKER: usize = 4;

/// Some items of a batch, and their part of its pixels.
pub(super) struct BatchChunk {
    pub(super) epoch: u64,
    pub(super) items: Arc<[Item]>,
    pub(super) range: Range<usize>,
    pub(super) pixels: BytesMut,
    /// Items that failed, by their index in the batch.
    pub(super) failures: Vec<(usize, DataError)>,
    pub(super) work: Work,
}

/// A batch in progress, or one that is complete and not yet taken.
pub(super) struct PendingBatch {
    /// Chunks that no worker has taken; the first one is the last element.
    pub(super) waiting: Vec<BatchChunk>,
    filled: Vec<BatchChunk>,
    chunks: usize,
    pub(super) result: Option<Result<Batch, DataError>>,
}

impl PendingBatch {
    pub(super) fn new(request: BatchRequest, bytes: usize, workers: usize) -> Self {
        if request.items.is_empty() {
            let batch = Batch { epoch: request.epoch, ..Batch::default() };
            return Self { waiting: Vec::new(), filled: Vec::new(), chunks: 0, result: Some(Ok(batch)) };
        }
        let items: Arc<[Item]> = request.items.into();
        let size = items.len().div_ceil(workers.max(1) * CHUNKS_PER_WORKER).clamp(1, MAX_CHUNK);
        let mut pixels = BytesMut::zeroed(items.len() * bytes);
        let mut waiting = Vec::new();
        for start in (0..items.len()).step_by(size) {
            let range = start..(start + size).min(items.len());
            let part = pixels.split_to(range.len() * bytes);
            let (items, failures, work) = (items.clone(), Vec::new(), Work::default());
            waiting.push(BatchChunk { epoch: request.epoch, items, range, pixels: part, failures, work });
        }
        waiting.reverse();
        Self { chunks: waiting.len(), waiting, filled: Vec::new(), result: None }
    }

    pub(super) fn failed(error: DataError) -> Self {
        Self { waiting: Vec::new(), filled: Vec::new(), chunks: 0, result: Some(Err(error)) }
    }

    /// Accepts a filled chunk; returns true for the last one.
    pub(super) fn give_back(&mut self, chunk: BatchChunk) -> bool {
        self.filled.push(chunk);
        self.filled.len() == self.chunks
    }

    pub(super) fn take_chunks(&mut self) -> Vec<BatchChunk> {
        std::mem::take(&mut self.filled)
    }
}

/// Joins all chunks to the batch.
pub(super) fn join(mut chunks: Vec<BatchChunk>, split: &Split, bytes: usize) -> Result<Batch, DataError> {
    chunks.sort_unstable_by_key(|chunk| chunk.range.start);
    let mut failures: Vec<(usize, DataError)> =
        chunks.iter_mut().flat_map(|chunk| std::mem::take(&mut chunk.failures)).collect();
    // The first failure in batch order is reported, not the first in time, so that runs report the same one.
    if let Some(first) = failures.iter().position(|(_, error)| !error.is_image_failure()) {
        return Err(failures.swap_remove(first).1);
    }
    let work = chunks.iter().map(|chunk| chunk.work).sum();
    let mut chunks = chunks.into_iter();
    let Some(BatchChunk { epoch, items, mut pixels, .. }) = chunks.next() else {
        return Ok(Batch::default());
    };
    for chunk in chunks {
        // The chunks are adjacent parts of one allocation: nothing is copied.
        pixels.unsplit(chunk.pixels);
    }
    let mut batch = Batch { epoch, images: Vec::from(pixels), work, ..Batch::default() };
    let mut failures = failures.into_iter().peekable();
    for (index, item) in items.iter().enumerate() {
        if let Some((_, error)) = failures.next_if(|(failed, _)| *failed == index) {
            batch.skipped.push(skipped(*item, &error));
            continue;
        }
        let kept = batch.labels.len();
        if kept != index {
            batch.images.copy_within(index * bytes..(index + 1) * bytes, kept * bytes);
        }
        batch.labels.push(split.labels().get(item.sample as usize).copied().map_or(-1, i64::from));
        batch.samples.push(item.sample);
        batch.positions.push(item.position);
    }
    batch.images.truncate(batch.labels.len() * bytes);
    Ok(batch)
}

fn skipped(item: Item, error: &DataError) -> Skipped {
    let (path, reason) = match error {
        DataError::Image { name, fault } => (name.clone(), fault.to_string()),
        error => (String::new(), error.to_string()),
    };
    Skipped { sample: item.sample, position: item.position, path, reason }
}
