//! Evaluation: every image of the list once, whatever the number of ranks (law 2).

use super::failure::{Failure, agreed};
use super::feed::{list_requests, to_device};
use super::loading::LoaderPlan;
use super::rank::Rank;
use crate::data::order::shard::eval_slice;
use crate::data::source::Split;
use crate::model::Model;
use crate::run::{ClassCounts, Reporter};
use collectives::ReduceOp;
use std::sync::Arc;
use std::time::Instant;
use tch::no_grad;

/// What to evaluate, and how.
pub struct Evaluation {
    /// The list.
    pub split: Arc<Split>,
    /// Number of classes.
    pub classes: usize,
    /// Images at once.
    pub batch_size: u64,
    /// How the images are loaded.
    pub loader: LoaderPlan,
}

/// Counts over the whole list, and the predicted class of each image in the list's order.
pub struct Evaluated {
    /// Integers, equal to the bit on any number of ranks.
    pub counts: ClassCounts,
    /// One class an image.
    pub predictions: Vec<i64>,
    /// Time it took.
    pub seconds: f64,
}

impl Evaluation {
    /// Evaluates the list over all ranks.
    pub fn run(&self, model: &Model, rank: &Rank, reporter: &mut Reporter) -> Result<Evaluated, Failure> {
        let start = Instant::now();
        let own = agreed(&rank.control, || self.own_part(model, rank, reporter))?;
        let mut counts = ClassCounts::new(self.classes);
        let parts = rank.control.all_gather(bytemuck::cast_slice(&own))?;
        let predictions =
            parts.iter().flat_map(|part| part.as_chunks().0).map(|&bytes| i64::from_ne_bytes(bytes));
        let predictions = predictions.collect();
        let labels: Vec<i64> =
            self.split.labels()[self.own_range(rank)].iter().map(|&l| i64::from(l)).collect();
        counts.add(&own, &labels).map_err(Failure::run)?;
        rank.control.all_reduce(counts.flat_mut(), ReduceOp::Sum)?;
        Ok(Evaluated { counts, predictions, seconds: start.elapsed().as_secs_f64() })
    }

    fn own_range(&self, rank: &Rank) -> std::ops::Range<usize> {
        let range = eval_slice(self.split.len() as u64, rank.world_size() as u64, rank.number() as u64);
        range.start as usize..range.end as usize
    }

    /// Predictions of this rank's contiguous part of the list.
    fn own_part(&self, model: &Model, rank: &Rank, reporter: &mut Reporter) -> Result<Vec<i64>, Failure> {
        let (len, world) = (self.split.len() as u64, rank.world_size() as u64);
        let requests = list_requests(len, world, rank.number() as u64, self.batch_size);
        let mut loader = self.loader.start(Arc::clone(&self.split), requests)?;
        let mut predictions = Vec::with_capacity(self.own_range(rank).len());
        while let Some(batch) = loader.next() {
            rank.check_requests()?;
            let batch = batch.map_err(Failure::run)?;
            let part = to_device(&batch, model.vision().shape.resolution, model.device());
            let best = no_grad(|| model.logits(&part.bytes).argmax(1, false));
            predictions.extend(Vec::<i64>::try_from(best).map_err(Failure::run)?);
            reporter.progress("evaluating", predictions.len() as u64 * world, len);
        }
        Ok(predictions)
    }
}
