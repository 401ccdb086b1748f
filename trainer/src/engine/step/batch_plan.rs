//! The samples that a rank trains and evaluates, as requests to the loader.

use crate::data::loader::{Batch, BatchRequest, Item};
use crate::data::order::Order;
use crate::data::order::shard::{share, step_slice, steps_per_epoch};
use std::ops::Range;
use std::sync::Arc;
use tch::Tensor;

use crate::engine::step::device_loader::DeviceBatch;
use crate::engine::step::local_batch::{LocalBatch, MicroBatch};

/// The steps of a run, and this rank's part of each.
#[derive(Debug, Clone)]
pub struct BatchPlan {
    /// The global order.
    pub order: Arc<Order>,
    /// Samples of a global batch.
    pub batch_size: u64,
    /// Epochs of the run.
    pub epochs: u64,
    /// Samples that go through the model at once, on a rank.
    pub micro_batch_size: u64,
    /// Number of parts of a global batch: the ranks, or the virtual shards that are distributed over ranks.
    pub shards: u64,
    /// This rank's parts.
    pub own: Range<u64>,
    /// The most parts that a rank has.
    pub most: u64,
}

impl BatchPlan {
    /// Steps of an epoch; the last may be short.
    pub fn steps(&self, epoch: u64) -> u64 {
        steps_per_epoch(self.order.len(epoch), self.batch_size)
    }

    /// Steps of all epochs before this one.
    pub fn steps_before(&self, epoch: u64) -> u64 {
        (0..epoch).map(|epoch| self.steps(epoch)).sum()
    }

    /// Steps of all epochs.
    pub fn total_steps(&self) -> u64 {
        self.steps_before(self.epochs)
    }

    /// The most samples of a rank that go through the model at once.
    pub fn most_at_once(&self) -> u64 {
        self.batch_size.div_ceil(self.shards).min(self.micro_batch_size)
    }

    /// This rank's requests, step by step, from step `from` of epoch `epoch` to the last epoch. A step without samples
    /// of this rank is an empty request.
    pub fn requests(
        &self,
        epoch: u64,
        from: u64,
    ) -> impl Iterator<Item = BatchRequest> + Send + 'static + use<> {
        let plan = self.clone();
        (epoch..plan.epochs).flat_map(move |at| {
            let plan = plan.clone();
            let first = if at == epoch { from } else { 0 };
            (first..plan.steps(at)).map(move |step| {
                let request = plan.request(at, step);
                #[cfg(feature = "faults")]
                let request = planted(request, plan.own.start == 0, (epoch, from), (at, step));
                request
            })
        })
    }

    /// Converts a loaded batch into the work of a step; none if it could not be loaded.
    pub fn work(&self, (epoch, step): (u64, u64), loaded: Option<&DeviceBatch>) -> LocalBatch {
        if let Some(Batch { positions, samples, .. }) = loaded.map(|loaded| &loaded.batch) {
            let step = step + 1;
            tracing::trace!(target: "samples", epoch, step, ?positions, ?samples, "one step's share of this rank");
        }
        let micro_batches_of = |shard| {
            let Some(DeviceBatch { batch, on_device }) = loaded else { return Vec::new() };
            let positions = self.slice(epoch, step, shard);
            let at = |end| batch.positions.partition_point(|&position| position < end);
            micro_batches(on_device, &(at(positions.start)..at(positions.end)), self.micro_batch_size)
        };
        let shards = self.own.clone().map(micro_batches_of).collect();
        let longest = self.slice(epoch, step, 0);
        let passes = (longest.end - longest.start).div_ceil(self.micro_batch_size).max(1);
        LocalBatch { shards, passes: (self.most as usize, passes as usize) }
    }

    fn slice(&self, epoch: u64, step: u64, shard: u64) -> Range<u64> {
        step_slice(self.order.len(epoch), self.batch_size, step, self.shards, shard)
    }

    fn request(&self, epoch: u64, step: u64) -> BatchRequest {
        let slice = |shard| self.slice(epoch, step, shard);
        let positions = slice(self.own.start).start..slice(self.own.end - 1).end;
        let mut samples = Vec::with_capacity((positions.end - positions.start) as usize);
        self.order.fill(epoch, positions.clone(), &mut samples);
        let items = positions.zip(samples).map(|(position, sample)| Item { position, sample }).collect();
        BatchRequest { epoch, items }
    }
}

/// The bugs planted in requests of the first rank: a resumed run loses a sample, or the loader of a new run fails.
#[cfg(feature = "faults")]
fn planted(mut request: BatchRequest, first_rank: bool, from: (u64, u64), at: (u64, u64)) -> BatchRequest {
    use crate::run::checkpoint::Planted;
    if first_rank && from.1 > 0 && at == from && Planted::LostSample.is_played() {
        request.items.pop();
    }
    if first_rank && from == (0, 0) && at == (0, 3) && Planted::FailedLoader.is_played() {
        request.items.push(Item { position: 0, sample: u64::MAX });
    }
    request
}

/// A list in fixed batches, of which each rank takes a contiguous range. The batches do not depend on the number of
/// ranks.
#[derive(Debug, Clone, Copy)]
pub struct ListPlan {
    /// Samples of the list.
    pub len: u64,
    /// Samples at once.
    pub batch_size: u64,
    /// Number of parts.
    pub parts: u64,
}

impl ListPlan {
    /// The batches of a part.
    fn batches(&self, part: u64) -> Range<u64> {
        share(self.len.div_ceil(self.batch_size), self.parts, part)
    }

    /// The samples of a part.
    pub fn samples(&self, part: u64) -> Range<u64> {
        let batches = self.batches(part);
        (batches.start * self.batch_size).min(self.len)..(batches.end * self.batch_size).min(self.len)
    }

    /// The most batches that a part has.
    pub fn most(&self) -> u64 {
        self.len.div_ceil(self.batch_size).div_ceil(self.parts)
    }

    /// The requests of a part, in the list's own order.
    pub fn requests(self, part: u64) -> impl Iterator<Item = BatchRequest> + Send + 'static {
        self.batches(part).map(move |batch| {
            let start = batch * self.batch_size;
            let end = (start + self.batch_size).min(self.len);
            let items = (start..end).map(|i| Item { position: i, sample: i }).collect();
            BatchRequest { epoch: 0, items }
        })
    }
}

/// Cuts a range of a batch into parts of at most `size` samples.
fn micro_batches(whole: &MicroBatch, range: &Range<usize>, size: u64) -> Vec<MicroBatch> {
    let part = |start: usize| {
        let length = (range.end - start).min(size as usize) as i64;
        let narrow = |tensor: &Tensor| tensor.narrow(0, start as i64, length);
        MicroBatch { bytes: narrow(&whole.bytes), labels: narrow(&whole.labels) }
    };
    range.clone().step_by(size as usize).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The parts of a list tile it in whole batches, and no part has more batches than are planned for all.
        #[test]
        fn law_2_parts_tile_the_list(len in 0_u64..3000, batch_size in 1_u64..200, parts in 1_u64..20) {
            let plan = ListPlan { len, batch_size, parts };
            let mut next = 0;
            for part in 0..parts {
                let samples = plan.samples(part);
                prop_assert_eq!(samples.start, next);
                let asked: Vec<u64> =
                    plan.requests(part).flat_map(|r| r.items).map(|item| item.sample).collect();
                prop_assert!(asked.iter().copied().eq(samples.clone()));
                prop_assert!(plan.requests(part).count() as u64 <= plan.most());
                prop_assert!(samples.start.is_multiple_of(batch_size) || samples.is_empty());
                next = samples.end;
            }
            prop_assert_eq!(next, len);
        }
    }
}
