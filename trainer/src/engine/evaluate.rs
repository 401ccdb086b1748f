//! Evaluation: every image of the list once, whatever the number of ranks (law 2).

use super::failure::{Failure, agreed};
use super::feed::{list_requests, to_device};
use super::rank::Rank;
use crate::data::loader::{BadImages, Loader, View};
use crate::data::source::Split;
use crate::model::Model;
use crate::run::counts::ClassCounts;
use crate::run::progress::Reporter;
use collectives::ReduceOp;
use std::sync::Arc;
use tch::no_grad;

/// What to evaluate, and how.
pub struct Evaluation {
    /// The list.
    pub split: Arc<Split>,
    /// Its view of an image.
    pub view: View,
    /// Number of classes.
    pub classes: usize,
    /// Images at once.
    pub batch_size: u64,
    /// Loader threads.
    pub workers: usize,
    /// Batches read ahead.
    pub prefetch: usize,
}

/// Counts over the whole list, and the predicted class of each image in the list's order.
pub struct Evaluated {
    /// Integers, equal to the bit on any number of ranks.
    pub counts: ClassCounts,
    /// One class an image.
    pub predictions: Vec<u32>,
}

impl Evaluation {
    /// Evaluates the list over all ranks.
    pub fn run(&self, model: &Model, rank: &Rank, reporter: &mut Reporter) -> Result<Evaluated, Failure> {
        let own = agreed(&rank.control, || self.own_part(model, rank, reporter))?;
        let mut counts = ClassCounts::new(self.classes);
        let parts = rank.control.all_gather(bytemuck::cast_slice(&own))?;
        let predictions: Vec<u32> = parts.iter().flat_map(|part| part.chunks_exact(4)).map(class_of).collect();
        counts.add(&own, &self.split.labels()[self.own_range(rank)]);
        rank.control.all_reduce(counts.as_mut_slice(), ReduceOp::Sum)?;
        Ok(Evaluated { counts, predictions })
    }

    fn own_range(&self, rank: &Rank) -> std::ops::Range<usize> {
        let range = crate::data::order::shard::eval_slice(
            self.split.len() as u64,
            rank.world_size() as u64,
            rank.number() as u64,
        );
        range.start as usize..range.end as usize
    }

    /// Predictions of this rank's contiguous part of the list.
    fn own_part(&self, model: &Model, rank: &Rank, reporter: &mut Reporter) -> Result<Vec<u32>, Failure> {
        let (len, world) = (self.split.len() as u64, rank.world_size() as u64);
        let requests = list_requests(len, world, rank.number() as u64, self.batch_size);
        let (split, view) = (Arc::clone(&self.split), self.view);
        let loader = Loader::start(split, view, BadImages::Stop, requests, self.workers, self.prefetch);
        let mut predictions = Vec::with_capacity(self.own_range(rank).len());
        for batch in loader {
            let batch = batch.map_err(Failure::run)?;
            let part = to_device(&batch, model.vision().shape.resolution, model.device());
            let best = no_grad(|| model.logits(&part.bytes).argmax(1, false));
            let best = Vec::<i64>::try_from(best).map_err(Failure::run)?;
            predictions.extend(best.into_iter().map(|class| class as u32));
            reporter.evaluated(predictions.len() as u64 * world);
        }
        Ok(predictions)
    }
}

fn class_of(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
