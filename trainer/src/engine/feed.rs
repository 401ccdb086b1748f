//! What a rank trains and evaluates, as requests to the loader.

use crate::data::loader::{Batch, Item, Request};
use crate::data::order::Order;
use crate::data::order::shard::{eval_slice, step_slice, steps_per_epoch};
use std::sync::Arc;
use tch::{Device, Tensor};

use super::step::MicroBatch;

/// The steps of a run, and this rank's part of each.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The global order.
    pub order: Arc<Order>,
    /// Samples of a global batch.
    pub batch_size: u64,
    /// Epochs of the run.
    pub epochs: u64,
    /// Number of ranks.
    pub world: u64,
    /// This rank.
    pub rank: u64,
}

impl Plan {
    /// Steps of an epoch; the last may be short.
    pub fn steps(&self, epoch: u64) -> u64 {
        steps_per_epoch(self.order.len(epoch), self.batch_size)
    }

    /// Steps of all epochs.
    pub fn total_steps(&self) -> u64 {
        (0..self.epochs).map(|epoch| self.steps(epoch)).sum()
    }

    /// This rank's requests, step by step, from the first epoch to the last. A step in which this rank has
    /// no sample is an empty request.
    pub fn requests(&self) -> impl Iterator<Item = Request> + Send + 'static + use<> {
        let plan = self.clone();
        (0..plan.epochs).flat_map(move |epoch| {
            let plan = plan.clone();
            (0..plan.steps(epoch)).map(move |step| plan.request(epoch, step))
        })
    }

    fn request(&self, epoch: u64, step: u64) -> Request {
        let positions = step_slice(self.order.len(epoch), self.batch_size, step, self.world, self.rank);
        let mut samples = Vec::with_capacity((positions.end - positions.start) as usize);
        self.order.fill(epoch, positions.clone(), &mut samples);
        let items = positions.zip(samples).map(|(position, sample)| Item { position, sample }).collect();
        Request { epoch, items }
    }
}

/// This rank's part of a list of `len` samples, in batches, in the list's own order.
pub fn list_requests(
    len: u64,
    world: u64,
    rank: u64,
    batch_size: u64,
) -> impl Iterator<Item = Request> + Send + 'static {
    let own = eval_slice(len, world, rank);
    let end = own.end;
    own.step_by(batch_size.max(1) as usize).map(move |start| {
        let items = (start..(start + batch_size).min(end)).map(|i| Item { position: i, sample: i }).collect();
        Request { epoch: 0, items }
    })
}

/// A batch on the device.
pub fn to_device(batch: &Batch, side: i64, device: Device) -> MicroBatch {
    let n = batch.labels.len() as i64;
    MicroBatch {
        bytes: Tensor::from_slice(&batch.images).view([n, 3, side, side]).to_device(device),
        labels: Tensor::from_slice(&batch.labels).to_device(device),
    }
}

/// Cuts a batch into parts of at most `size` samples.
pub fn micro_batches(whole: MicroBatch, size: u64) -> Vec<MicroBatch> {
    if whole.labels.numel() as u64 <= size {
        return vec![whole];
    }
    let (bytes, labels) = (whole.bytes.split(size as i64, 0), whole.labels.split(size as i64, 0));
    bytes.into_iter().zip(labels).map(|(bytes, labels)| MicroBatch { bytes, labels }).collect()
}
