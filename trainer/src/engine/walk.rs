//! All samples of a list through the model, once, by all ranks together.

use super::failure::{Failure, agreed};
use super::feed::{ListPlan, to_device};
use super::loading::LoaderPlan;
use super::rank::Rank;
use super::step::MicroBatch;
use crate::data::loader::{Batch, Loader};
use crate::data::source::Split;
use collectives::{CollectiveError, ReduceOp};
use std::sync::Arc;

/// Batches after which ranks hear whether one of them cannot go on.
const BATCHES_BETWEEN_LOOKS: u64 = 16;

/// A list to walk through.
pub struct Walk<'a> {
    /// This process.
    pub rank: &'a Rank,
    /// Which batches there are, and how they are shared out.
    pub plan: ListPlan,
    /// The list.
    pub split: &'a Arc<Split>,
    /// How its images are loaded.
    pub loader: LoaderPlan,
    /// Side of an image.
    pub side: i64,
}

impl Walk<'_> {
    /// Calls `each` for every batch of `part`, and as often on every rank: without a batch where there is none left,
    /// where this rank has no part, or where it could not go on. What stands in the way of any rank ends the walk of all
    /// soon after.
    pub fn through(
        &self,
        part: Option<u64>,
        mut each: impl FnMut(Option<&MicroBatch>) -> Result<(), CollectiveError>,
    ) -> Result<(), Failure> {
        let rank = self.rank;
        let plan = self.plan;
        let requests = part.into_iter().flat_map(move |part| plan.requests(part));
        let start = || self.loader.start(Arc::clone(self.split), requests);
        let mut loader = agreed(&rank.control, start)?;
        let mut problem = None;
        for number in 0..self.plan.most() {
            if number % BATCHES_BETWEEN_LOOKS == 0 && self.any_stopped(problem.is_some())? {
                break;
            }
            // Each batch is a sign of life: without collective calls in it there would be none until the walk ends.
            let _entered = rank.activity.enter("batch");
            let batch = if problem.is_none() { self.next(&mut loader) } else { Ok(None) };
            let batch = batch.unwrap_or_else(|failure| {
                problem = Some(failure);
                None
            });
            each(batch.map(|batch| to_device(&batch, self.side, rank.device)).as_ref())?;
        }
        agreed(&rank.control, || problem.map_or(Ok(()), Err))
    }

    /// Whether some rank cannot go on, or was asked not to.
    fn any_stopped(&self, own: bool) -> Result<bool, CollectiveError> {
        let mut stopped = [i64::from(own)];
        self.rank.control.all_reduce(&mut stopped, ReduceOp::Max)?;
        Ok(stopped[0] > 0)
    }

    fn next(&self, loader: &mut Loader) -> Result<Option<Batch>, Failure> {
        self.rank.check_requests()?;
        loader.next().transpose().map_err(Failure::run)
    }
}
