//! Evaluation: every image of the list once, whatever the number of ranks (law 2).

use super::bad_images::{BadImages, Images, Limit};
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
    /// How many images of the run may be left out.
    pub limit: Limit,
}

/// In place of the predicted class of an image that cannot be read. It is in no count, on any number of ranks.
pub const LEFT_OUT: i64 = -1;

/// Counts over the whole list, and the predicted class of each image in the list's order.
pub struct Evaluated {
    /// Integers, equal to the bit on any number of ranks.
    pub counts: ClassCounts,
    /// One class an image, or [`LEFT_OUT`].
    pub predictions: Vec<i64>,
    /// Time it took.
    pub seconds: f64,
}

impl Evaluation<'_> {
    /// Evaluates the list over all ranks. Images that cannot be read are left out, and `bad` knows them afterwards.
    pub fn run(
        &self,
        rank: &Rank,
        reporter: &mut Reporter,
        bad: &mut BadImages,
    ) -> Result<Evaluated, Failure> {
        let start = Instant::now();
        let plan = ListPlan {
            len: self.split.len() as u64,
            batch_size: self.batch_size,
            parts: rank.world_size() as u64,
        };
        let own = self.own_part(plan, (rank, reporter), bad)?;
        let mut counts = ClassCounts::new(self.classes);
        let parts = rank.control.all_gather(bytemuck::cast_slice(&own))?;
        let predictions =
            parts.iter().flat_map(|part| part.as_chunks().0).map(|&bytes| i64::from_ne_bytes(bytes));
        let predictions = predictions.collect();
        let range = plan.samples(rank.number() as u64);
        let labels = &self.split.labels()[range.start as usize..range.end as usize];
        let seen = own.iter().zip(labels).filter(|(class, _)| **class != LEFT_OUT);
        let (seen, labels): (Vec<i64>, Vec<i64>) =
            seen.map(|(&class, &label)| (class, i64::from(label))).unzip();
        counts.add(&seen, &labels).map_err(Failure::run)?;
        rank.control.all_reduce(counts.flat_mut(), ReduceOp::Sum)?;
        Ok(Evaluated { counts, predictions, seconds: start.elapsed().as_secs_f64() })
    }

    /// Predictions of this rank's contiguous part of the list.
    fn own_part(
        &self,
        plan: ListPlan,
        (rank, reporter): (&Rank, &mut Reporter),
        bad: &mut BadImages,
    ) -> Result<Vec<i64>, Failure> {
        let model = self.pass.model();
        let side = model.tower().shape().resolution;
        let (images, limit) = (Images::Test, self.limit);
        let walk = Walk { rank, plan, split: &self.split, images, limit, loader: self.loader, side };
        let own = plan.samples(rank.number() as u64);
        let mut predictions = vec![LEFT_OUT; (own.end - own.start) as usize];
        walk.through(Some(rank.number() as u64), bad, |part| {
            let features = self.pass.features(part.map(|(_, on_device)| &on_device.bytes), true)?;
            let best = self.classifier.predict(model, features.as_ref())?;
            if let Some((best, (batch, _))) = best.zip(part) {
                let mut classes = vec![0i64; best.numel()];
                best.to_device(tch::Device::Cpu).copy_data(&mut classes, best.numel());
                for (sample, class) in batch.samples.iter().zip(classes) {
                    predictions[(sample - own.start) as usize] = class;
                }
                let done = batch.samples.last().map_or(0, |last| last + 1 - own.start);
                reporter.progress("evaluating", (done * plan.parts).min(plan.len), plan.len);
            }
            Ok(())
        })?;
        Ok(predictions)
    }
}
