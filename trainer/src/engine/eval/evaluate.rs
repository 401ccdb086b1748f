//! Evaluation: every image of the list once, on any number of ranks (law 2).
//!
//! An image may have several crops; their logits are averaged. `eval.batch_size` bounds the crops in one pass: a batch
//! has fewer images the more crops each has. If one image has more crops than that, they take several passes, the same
//! number on every rank (law 4).

use crate::data::source::Split;
use crate::engine::eval::bad_images::{BadImageLimit, BadImages, ImageSet};
use crate::engine::eval::dataset_pass::DatasetPass;
use crate::engine::eval::kept_logits::KeptLogits;
use crate::engine::failure::Failure;
use crate::engine::rank::Rank;
use crate::engine::setup::loader_plan::LoaderPlan;
use crate::engine::step::batch_plan::ListPlan;
use crate::engine::step::classifier::Classifier;
use crate::engine::step::pass::Pass;
use crate::run::{ClassCounts, Reporter};
use collectives::{CollectiveError, ReduceOp};
use protocol::evaluation::CERTAIN;
use std::sync::Arc;
use std::time::Instant;
use tch::Tensor;

/// What to evaluate, and how.
pub struct Evaluation<'a> {
    /// Forward pass through the model.
    pub pass: Pass<'a>,
    /// From features to classes, for the crops of a batch.
    pub classifier: Classifier,
    /// The list.
    pub split: Arc<Split>,
    /// Which list it is.
    pub images: ImageSet,
    /// Number of classes.
    pub classes: usize,
    /// How crops are grouped.
    pub batch: CropBatch,
    /// How the images are loaded.
    pub loader: LoaderPlan,
    /// How many images of the run may be left out.
    pub limit: BadImageLimit,
    /// Where the logits of the images are kept, on request.
    pub kept: Option<&'a KeptLogits>,
}

/// Grouping of crops into batches and passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBatch {
    /// Crops of each image.
    pub crops: u64,
    /// Crops that go through the model at once, at most.
    pub at_once: u64,
}

impl CropBatch {
    /// Images of a batch.
    pub fn images(self) -> u64 {
        (self.at_once / self.crops).max(1)
    }

    /// Crops of a batch, at most.
    pub fn most(self) -> u64 {
        self.images() * self.crops
    }

    /// Passes through the model for each batch.
    fn passes(self) -> usize {
        self.most().div_ceil(self.at_once) as usize
    }
}

/// Prediction of an unreadable image. No count includes it, on any number of ranks.
pub const LEFT_OUT: i64 = -1;

/// Counts over the full list, and the predicted class of each image in the list's order.
pub struct EvaluationCounts {
    /// Integers, equal on any number of ranks.
    pub counts: ClassCounts,
    /// One class per image, or [`LEFT_OUT`].
    pub predictions: Vec<i64>,
    /// The softmax probability of the predicted class of each image, in millionths; undefined for one left out.
    pub confidences: Vec<u64>,
    /// Time it took.
    pub seconds: f64,
}

impl Evaluation<'_> {
    /// Evaluates the list over all ranks. Images that cannot be read are left out, and added to `bad`.
    pub fn run(
        &self,
        rank: &Rank,
        reporter: &mut Reporter,
        bad: &mut BadImages,
    ) -> Result<EvaluationCounts, Failure> {
        let start = Instant::now();
        let plan = self.plan(rank);
        let own = self.own_part(plan, (rank, reporter), bad)?;
        let mut counts = ClassCounts::new(self.classes);
        let (own, confidences) = own;
        let predictions = Self::of_all_ranks(rank, &own, i64::from_ne_bytes)?;
        let confidences = Self::of_all_ranks(rank, &confidences, u64::from_ne_bytes)?;
        let range = plan.samples(rank.number() as u64);
        let labels = &self.split.labels()[range.start as usize..range.end as usize];
        let seen = own.iter().zip(labels).filter(|(class, _)| **class != LEFT_OUT);
        let (seen, labels): (Vec<i64>, Vec<i64>) =
            seen.map(|(&class, &label)| (class, i64::from(label))).unzip();
        counts.add(&seen, &labels).map_err(Failure::run)?;
        rank.control.all_reduce(counts.flat_mut(), ReduceOp::Sum)?;
        Ok(EvaluationCounts { counts, predictions, confidences, seconds: start.elapsed().as_secs_f64() })
    }

    /// The numbers of all images, from those of each rank's part of the list.
    fn of_all_ranks<T: bytemuck::NoUninit>(
        rank: &Rank,
        own: &[T],
        read: fn([u8; 8]) -> T,
    ) -> Result<Vec<T>, Failure> {
        let parts = rank.control.all_gather(bytemuck::cast_slice(own))?;
        Ok(parts.iter().flat_map(|part| part.as_chunks().0).map(|&bytes| read(bytes)).collect())
    }

    /// Predictions of this rank's contiguous part of the list, and their confidences.
    fn own_part(
        &self,
        plan: ListPlan,
        (rank, reporter): (&Rank, &mut Reporter),
        bad: &mut BadImages,
    ) -> Result<(Vec<i64>, Vec<u64>), Failure> {
        let (images, limit) = (self.images, self.limit);
        let walk = DatasetPass { rank, plan, split: &self.split, images, limit, loader: self.loader };
        let own = plan.samples(rank.number() as u64);
        let mut predictions = vec![LEFT_OUT; (own.end - own.start) as usize];
        let mut confidences = vec![0; predictions.len()];
        walk.through(Some(rank.number() as u64), bad, |part| {
            let features = self.features(part.map(|(_, on_device)| &on_device.bytes))?;
            let best = self.best(features.as_ref(), part.map(|(batch, _)| batch))?;
            if let Some((best, (batch, _))) = best.zip(part) {
                let mut classes = vec![0i64; best.classes.numel()];
                let mut probabilities = vec![0f64; classes.len()];
                best.classes.to_device(tch::Device::Cpu).copy_data(&mut classes, best.classes.numel());
                best.confidences.to_device(tch::Device::Cpu).copy_data(&mut probabilities, classes.len());
                for ((sample, class), probability) in batch.samples.iter().zip(classes).zip(probabilities) {
                    let at = (sample - own.start) as usize;
                    predictions[at] = class;
                    // The probability of logits that are not finite is NaN, which becomes 0.
                    confidences[at] = (probability * CERTAIN as f64).round() as u64;
                }
                let done = batch.samples.last().map_or(0, |last| last + 1 - own.start);
                reporter.progress("evaluating", (done * plan.parts).min(plan.len), plan.len);
            }
            Ok(())
        })?;
        Ok((predictions, confidences))
    }

    /// Features of the crops of a batch.
    pub(super) fn features(&self, bytes: Option<&Tensor>) -> Result<Option<Tensor>, CollectiveError> {
        let parts = bytes.map(|bytes| bytes.split(self.batch.at_once as i64, 0)).unwrap_or_default();
        let mut features = Vec::with_capacity(parts.len());
        for number in 0..self.batch.passes() {
            features.extend(self.pass.features(parts.get(number), true)?);
        }
        Ok((!features.is_empty()).then(|| Tensor::cat(&features, 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_holds_as_many_crops_as_images_before_or_fewer() {
        let of = |crops, at_once| {
            let batch = CropBatch { crops, at_once };
            (batch.images(), batch.most(), batch.passes())
        };
        assert_eq!(of(1, 128), (128, 128, 1));
        assert_eq!(of(5, 128), (25, 125, 1));
        assert_eq!(of(10, 10), (1, 10, 1));
        // One image at a time, in parts.
        assert_eq!(of(10, 4), (1, 10, 3));
        assert_eq!(of(1000, 1), (1, 1000, 1000));
    }
}
