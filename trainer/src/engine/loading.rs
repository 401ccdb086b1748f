//! How this rank's loaders are set up.

use super::failure::Failure;
use crate::data::loader::{Loader, LoaderOptions, Request};
use crate::data::source::Split;
use crate::data::transform::View;
use std::sync::Arc;

/// Everything about a loader but what it loads.
#[derive(Debug, Clone, Copy)]
pub struct LoaderPlan {
    /// What the model is to see of an image.
    pub view: View,
    /// Threads, batches read ahead, what a broken image does.
    pub options: LoaderOptions,
}

impl LoaderPlan {
    /// Starts the threads.
    pub fn start(
        &self,
        split: Arc<Split>,
        requests: impl Iterator<Item = Request> + Send + 'static,
    ) -> Result<Loader, Failure> {
        Loader::start(split, self.view, requests, self.options).map_err(Failure::run)
    }
}
