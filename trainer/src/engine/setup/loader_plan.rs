//! How this rank's loaders are set up.

use crate::data::loader::{BatchRequest, Loader, LoaderOptions};
use crate::data::source::Split;
use crate::data::transform::ImageView;
use crate::engine::failure::Failure;
use std::sync::Arc;

/// Everything about a loader but what it loads.
#[derive(Debug, Clone, Copy)]
pub struct LoaderPlan {
    /// What the model is to see of an image.
    pub view: ImageView,
    /// Threads, batches read ahead, what a broken image does.
    pub options: LoaderOptions,
}

impl LoaderPlan {
    /// Starts the threads.
    pub fn start(
        &self,
        split: Arc<Split>,
        requests: impl Iterator<Item = BatchRequest> + Send + 'static,
    ) -> Result<Loader, Failure> {
        Loader::start(split, self.view, requests, self.options).map_err(Failure::run)
    }
}
