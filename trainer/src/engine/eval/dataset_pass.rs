//! One pass of all ranks over all samples of a list.

use crate::data::loader::Batch;
use crate::data::source::Split;
use crate::engine::eval::bad_images::{BadImage, BadImageLimit, BadImages, ImageSet};
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::loader_plan::LoaderPlan;
use crate::engine::step::batch_plan::ListPlan;
use crate::engine::step::device_loader::{DeviceBatch, DeviceLoader};
use crate::engine::step::local_batch::MicroBatch;
use collectives::{CollectiveError, ReduceOp};
use std::sync::Arc;

/// Batches between two checks whether a rank has failed.
const BATCHES_BETWEEN_LOOKS: u64 = 16;

/// The list of a pass.
pub struct DatasetPass<'a> {
    /// This process.
    pub rank: &'a Rank,
    /// The batches and their distribution over ranks.
    pub plan: ListPlan,
    /// The list.
    pub split: &'a Arc<Split>,
    /// Which list it is.
    pub images: ImageSet,
    /// How many images of the run may be left out.
    pub limit: BadImageLimit,
    /// How its images are loaded.
    pub loader: LoaderPlan,
}

impl DatasetPass<'_> {
    /// Calls `each` for every batch of `part`, the same number of times on every rank: without a batch if none is left,
    /// if this rank has no part, if no image of the batch can be read, or if the rank has failed. A failure of any rank
    /// ends the pass on all ranks soon after. Unreadable images are left out and added to `bad`; those that this rank has
    /// encountered for the first time are returned.
    pub fn through(
        &self,
        part: Option<u64>,
        bad: &mut BadImages,
        mut each: impl FnMut(Option<(&Batch, &MicroBatch)>) -> Result<(), CollectiveError>,
    ) -> Result<Vec<BadImage>, Failure> {
        let rank = self.rank;
        let plan = self.plan;
        let requests = part.into_iter().flat_map(move |part| plan.requests(part));
        let start = || self.loader.start(Arc::clone(self.split), requests, rank.device);
        let mut loader = agreed(&rank.control, start)?;
        let (mut problem, mut met) = (None, Vec::new());
        for number in 0..self.plan.most() {
            let stopped = problem.is_some() || bad.exceeds(met.len(), self.limit);
            if number % BATCHES_BETWEEN_LOOKS == 0 && self.any_stopped(stopped)? {
                break;
            }
            // Each batch counts as progress for the liveness watch: without collective calls, nothing else would until
            // the pass ends.
            let _entered = rank.activity.enter("batch");
            let loaded = if stopped { Ok(None) } else { self.next(&mut loader) };
            let loaded = loaded.unwrap_or_else(|failure| {
                problem = Some(failure);
                None
            });
            met.extend(loaded.iter().flat_map(|loaded| bad.news(self.images, &loaded.batch.skipped)));
            let usable = loaded.as_ref().filter(|loaded| !loaded.batch.is_empty());
            each(usable.map(|loaded| (&loaded.batch, &loaded.on_device)))?;
        }
        agreed(&rank.control, || problem.map_or(Ok(()), Err))?;
        bad.meet(&met, self.limit, rank)?;
        Ok(met)
    }

    /// Whether a rank has failed or received a request to stop.
    fn any_stopped(&self, own: bool) -> Result<bool, CollectiveError> {
        let mut stopped = [i64::from(own)];
        self.rank.control.all_reduce(&mut stopped, ReduceOp::Max)?;
        Ok(stopped[0] > 0)
    }

    fn next(&self, loader: &mut DeviceLoader) -> Result<Option<DeviceBatch>, Failure> {
        self.rank.check_requests()?;
        loader.next().transpose().map_err(Failure::run)
    }
}
