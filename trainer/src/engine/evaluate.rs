//! Evaluation: every image of the list once, whatever the number of ranks (law 2).

use super::classifier::Classifier;
use super::failure::Failure;
use super::feed::ListPlan;
use super::loading::LoaderPlan;
use super::pass::Pass;
use super::rank::Rank;
use super::walk::Walk;
use crate::data::source::Split;
use crate::run::{ClassCounts, Reporter};
use collectives::ReduceOp;
use std::sync::Arc;
use std::time::Instant;

/// What to evaluate, and how.
pub struct Evaluation<'a> {
    /// The way through the model.
    pub pass: Pass<'a>,
    /// From features to classes.
    pub classifier: Classifier,
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

impl Evaluation<'_> {
    /// Evaluates the list over all ranks.
    pub fn run(&self, rank: &Rank, reporter: &mut Reporter) -> Result<Evaluated, Failure> {
        let start = Instant::now();
        let plan = ListPlan {
            len: self.split.len() as u64,
            batch_size: self.batch_size,
            parts: rank.world_size() as u64,
        };
        let own = self.own_part(plan, rank, reporter)?;
        let mut counts = ClassCounts::new(self.classes);
        let parts = rank.control.all_gather(bytemuck::cast_slice(&own))?;
        let predictions =
            parts.iter().flat_map(|part| part.as_chunks().0).map(|&bytes| i64::from_ne_bytes(bytes));
        let predictions = predictions.collect();
        let range = plan.samples(rank.number() as u64);
        let labels = &self.split.labels()[range.start as usize..range.end as usize];
        let labels: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
        counts.add(&own, &labels).map_err(Failure::run)?;
        rank.control.all_reduce(counts.flat_mut(), ReduceOp::Sum)?;
        Ok(Evaluated { counts, predictions, seconds: start.elapsed().as_secs_f64() })
    }

    /// Predictions of this rank's contiguous part of the list.
    fn own_part(&self, plan: ListPlan, rank: &Rank, reporter: &mut Reporter) -> Result<Vec<i64>, Failure> {
        let model = self.pass.model();
        let side = model.vision().shape.resolution;
        let walk = Walk { rank, plan, split: &self.split, loader: self.loader, side };
        let mut predictions = Vec::new();
        walk.through(Some(rank.number() as u64), |part| {
            let features = self.pass.features(part.map(|part| &part.bytes), true)?;
            if let Some(best) = self.classifier.predict(model, features.as_ref())? {
                let mut classes = vec![0i64; best.numel()];
                best.to_device(tch::Device::Cpu).copy_data(&mut classes, best.numel());
                predictions.extend(classes);
            }
            reporter.progress("evaluating", (predictions.len() as u64 * plan.parts).min(plan.len), plan.len);
            Ok(())
        })?;
        Ok(predictions)
    }
}
