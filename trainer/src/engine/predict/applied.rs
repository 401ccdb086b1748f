//! A finished run, ready for use without its data set: its model with the trained values, and its classes.

use crate::config::Resolved;
use crate::data::source::{DataSet, Split};
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::session::Session;
use crate::engine::setup::trained_weights::TrainedWeights;
use crate::run::RunResult;
use std::path::Path;

/// A finished run, ready for use.
pub struct AppliedRun {
    /// Its model and classes; its test images are those that the user named.
    pub session: Session,
    /// Its recorded figures.
    pub result: RunResult,
}

impl AppliedRun {
    /// Opens the run in `folder`, whose configuration is `resolved`, for `images`. Collective.
    pub fn open(
        folder: &Path,
        weights: &Path,
        resolved: &Resolved,
        images: Split,
        rank: &Rank,
        report: &dyn Fn(&str),
    ) -> Result<Self, Failure> {
        rank.begin("init");
        let result = agreed(&rank.control, || RunResult::read(folder).map_err(Failure::input))?;
        let trained = TrainedWeights::open(weights, &resolved.config, rank)?;
        let counts: Vec<u64> = result.per_class.iter().map(|class| class.train_count).collect();
        let class_names = result.per_class.iter().map(|class| class.name.clone()).collect();
        let train = Split::of_counts(&counts);
        let data = DataSet { class_names, train, test: images, findings: Vec::new() };
        let session = Session::apply(resolved, rank, data, report)?;
        trained.copy_into(&session, rank)?;
        Ok(Self { session, result })
    }
}
