//! A loader whose batches are on the device.
//!
//! On a GPU, a thread copies each batch while the step before it runs: pixels and labels in one piece, from pinned memory,
//! in a stream of its own. The stream of the step waits for the copy on the GPU; the host does not. The thread is one batch
//! ahead of the step.

use crate::data::error::DataError;
use crate::data::loader::{Batch, Loader, LoaderStop};
use crate::engine::gpu::ffi::{self, Event};
use crate::engine::gpu::upload::upload_bytes;
use crate::engine::panics::explain;
use crate::engine::step::local_batch::MicroBatch;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;
use tch::{Device, Kind, TchError, Tensor};

/// A batch, and its pixels and labels on the device. The crops of an image are adjacent.
#[derive(Debug)]
pub struct DeviceBatch {
    /// What was loaded. On a GPU its pixels are dropped once they are copied.
    pub batch: Batch,
    /// All of it as one micro-batch.
    pub on_device: MicroBatch,
}

/// Why there is no batch.
#[derive(Debug, thiserror::Error)]
pub enum DeviceLoaderError {
    /// The loader has none.
    #[error(transparent)]
    Data(#[from] DataError),
    /// It cannot be copied to the GPU.
    #[error("{0}")]
    Gpu(String),
}

/// Returns the batches of a loader, on a device.
#[derive(Debug)]
pub struct DeviceLoader(Kept);

#[derive(Debug)]
enum Kept {
    /// Batches that stay on the host.
    Host { loader: Loader, side: i64 },
    /// Batches that a thread copies.
    Gpu(Uploader),
}

type Uploaded = Result<(DeviceBatch, Event), DeviceLoaderError>;

/// The thread that copies, and the way to its batches.
#[derive(Debug)]
struct Uploader {
    index: usize,
    stop: LoaderStop,
    batches: Option<Receiver<Uploaded>>,
    thread: Option<JoinHandle<()>>,
}

impl DeviceLoader {
    /// Takes over a loader, whose images have this side.
    pub fn new(loader: Loader, side: i64, device: Device) -> Result<Self, DataError> {
        Ok(Self(match device {
            Device::Cuda(index) => Kept::Gpu(Uploader::start(loader, side, index)?),
            _ => Kept::Host { loader, side },
        }))
    }

    /// The next batch, as [`Loader::next`] returns it.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would invite adapters that hide the waiting"
    )]
    pub fn next(&mut self) -> Option<Result<DeviceBatch, DeviceLoaderError>> {
        match &mut self.0 {
            Kept::Host { loader, side } => Some(loader.next()?.map_err(Into::into).map(|batch| {
                let on_device = MicroBatch {
                    bytes: pixels(&Tensor::from_slice(&batch.images), *side),
                    labels: Tensor::from_slice(&batch.labels),
                };
                DeviceBatch { batch, on_device }
            })),
            Kept::Gpu(uploader) => uploader.next(),
        }
    }
}

/// Bytes as images, `[n, 3, side, side]`.
fn pixels(bytes: &Tensor, side: i64) -> Tensor {
    let crops = bytes.numel() as i64 / (3 * side * side).max(1);
    bytes.view([crops, 3, side, side])
}

impl Uploader {
    fn start(loader: Loader, side: i64, index: usize) -> Result<Self, DataError> {
        let stop = loader.stopper();
        // Without a buffer: the thread has one batch copied, and waits for its turn with it.
        let (sender, receiver) = sync_channel(0);
        let thread = std::thread::Builder::new().name("upload".to_owned());
        let thread = thread
            .spawn(move || copy_batches(loader, &sender, side, index))
            .map_err(|error| DataError::Setting(format!("cannot start the thread that uploads: {error}")))?;
        Ok(Self { index, stop, batches: Some(receiver), thread: Some(thread) })
    }

    fn next(&mut self) -> Option<Result<DeviceBatch, DeviceLoaderError>> {
        let start = Instant::now();
        let uploaded = self.batches.as_ref()?.recv().ok()?;
        let waited = start.elapsed().as_secs_f64();
        Some(uploaded.and_then(|(mut batch, copied)| {
            batch.batch.waited = batch.batch.waited.within(waited);
            let MicroBatch { bytes, labels } = &batch.on_device;
            // The labels share the memory of the pixels.
            let known = copied.block_stream() && ffi::record_stream(self.index, bytes);
            debug_assert_eq!(bytes.device(), labels.device());
            known.then_some(batch).ok_or_else(refused)
        }))
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.stop.stop();
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // Its panics were caught.
            let _ = thread.join();
        }
    }
}

/// The main loop of the thread. It ends with the loader, after an error, and when nobody takes its batches any more.
fn copy_batches(mut loader: Loader, to: &SyncSender<Uploaded>, side: i64, index: usize) {
    let own_stream = ffi::use_pool_stream(index);
    while let Some(loaded) = loader.next() {
        let copied = || match loaded {
            Ok(batch) if own_stream => copy(batch, side, index),
            Ok(_) => Err(refused()),
            Err(error) => Err(error.into()),
        };
        let uploaded = catch_unwind(AssertUnwindSafe(copied)).unwrap_or_else(|_| {
            Err(DeviceLoaderError::Gpu("the thread that uploads batches panicked".into()))
        });
        let failed = uploaded.is_err();
        if to.send(uploaded).is_err() || failed {
            return;
        }
    }
}

fn copy(mut batch: Batch, side: i64, index: usize) -> Uploaded {
    let labels: &[u8] = bytemuck::cast_slice(&batch.labels);
    let (start, length) = (labels.len() as i64, batch.images.len() as i64);
    let tensors = || {
        // Labels come first, so that they are aligned.
        let all = upload_bytes(&[labels, &batch.images], Device::Cuda(index))?;
        let labels = all.f_narrow(0, 0, start)?.f_view_dtype(Kind::Int64)?;
        Ok(MicroBatch { bytes: pixels(&all.f_narrow(0, start, length)?, side), labels })
    };
    let on_device =
        tensors().map_err(|error: TchError| DeviceLoaderError::Gpu(explain(error.to_string())))?;
    let copied = Event::record(index).ok_or_else(refused)?;
    batch.images = Vec::new();
    Ok((DeviceBatch { batch, on_device }, copied))
}

fn refused() -> DeviceLoaderError {
    DeviceLoaderError::Gpu("libtorch refuses a stream of the GPU for uploads".to_owned())
}
