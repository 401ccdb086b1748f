//! The logits of images, batch by batch.

use crate::data::loader::Batch;
use crate::engine::eval::bad_images::{BadImage, BadImages};
use crate::engine::eval::dataset_pass::DatasetPass;
use crate::engine::eval::evaluate::Evaluation;
use crate::engine::failure::Failure;
use crate::engine::rank::Rank;
use crate::engine::step::batch_plan::ListPlan;
use crate::engine::step::classifier::Predictions;
use crate::run::Reporter;
use collectives::CollectiveError;
use std::ops::Range;
use tch::{Device, Tensor};

impl Evaluation<'_> {
    /// The division of the list over ranks.
    pub fn plan(&self, rank: &Rank) -> ListPlan {
        let (len, parts) = (self.split.len() as u64, rank.world_size() as u64);
        ListPlan { len, batch_size: self.batch.images(), parts }
    }

    /// The places in the list of the images of this rank.
    pub fn own(&self, rank: &Rank) -> Range<u64> {
        self.plan(rank).samples(rank.number() as u64)
    }

    /// The predictions of a batch, whose logits are kept if they were requested.
    pub(super) fn best(
        &self,
        features: Option<&Tensor>,
        batch: Option<&Batch>,
    ) -> Result<Option<Predictions>, CollectiveError> {
        let (model, crops) = (self.pass.model(), self.batch.crops as i64);
        let Some(kept) = self.kept else { return self.classifier.predict(model, features, crops) };
        let logits = self.classifier.logits(model, features, crops)?;
        Ok(logits.zip(batch).map(|(logits, batch)| {
            kept.keep(&self.split, batch, &logits);
            Predictions::of(&logits)
        }))
    }

    /// Calls `each` with every batch of this rank's images and their logits, `[n, classes]`, in main memory. Images that
    /// cannot be read are left out; those that this rank has encountered are returned. All ranks call this.
    pub fn scores(
        &self,
        rank: &Rank,
        reporter: &mut Reporter,
        bad: &mut BadImages,
        each: &mut dyn FnMut(&Batch, &Tensor),
    ) -> Result<Vec<BadImage>, Failure> {
        let (plan, own, model) = (self.plan(rank), self.own(rank), self.pass.model());
        let (images, limit) = (self.images, self.limit);
        let walk = DatasetPass { rank, plan, split: &self.split, images, limit, loader: self.loader };
        walk.through(Some(rank.number() as u64), bad, |part| {
            let features = self.features(part.map(|(_, on_device)| &on_device.bytes))?;
            let logits = self.classifier.logits(model, features.as_ref(), self.batch.crops as i64)?;
            if let Some((logits, (batch, _))) = logits.zip(part) {
                // Waits for the device.
                each(batch, &logits.to_device(Device::Cpu));
                let done = batch.samples.last().map_or(0, |last| last + 1 - own.start);
                reporter.progress("images", (done * plan.parts).min(plan.len), plan.len);
            }
            Ok(())
        })
    }
}
