//! Settings of this rank's loaders.

use crate::data::loader::{BatchRequest, Loader, LoaderOptions};
use crate::data::source::Split;
use crate::data::transform::ImageView;
use crate::engine::failure::Failure;
use std::sync::Arc;

/// All settings of a loader except its list.
#[derive(Debug, Clone, Copy)]
pub struct LoaderPlan {
    /// The view of an image.
    pub view: ImageView,
    /// Threads and prefetched batches.
    pub options: LoaderOptions,
}

impl LoaderPlan {
    /// Threads of a loader beside this number of compute threads, unless `data.workers` sets them.
    pub fn default_workers(threads: usize) -> usize {
        threads.clamp(1, 8)
    }

    /// Starts the threads.
    pub fn start(
        &self,
        split: Arc<Split>,
        requests: impl Iterator<Item = BatchRequest> + Send + 'static,
    ) -> Result<Loader, Failure> {
        Loader::start(split, self.view, requests, self.options).map_err(Failure::run)
    }
}
