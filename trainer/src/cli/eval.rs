//! `lift-trainer eval`: evaluates the trained tensors of a run or of a file.

use super::CommandContext;
use super::arguments::EvalArguments;
use super::finished_run;
use super::train::{greet, output_arguments, print};
use crate::config::Resolved;
use crate::engine::failure::Failure;
use crate::engine::training::experiment::{Experiment, RunEnd};
use crate::engine::training::resume::ResumeRequest;
use crate::run::{DEFAULT_PARENT, RunDestination};
use protocol::Outcome;
use std::path::PathBuf;

/// Evaluates and prints the result; with `--output`, or for a file, also writes them into a separate run folder.
pub(super) fn run(context: &CommandContext<'_>, arguments: &EvalArguments) -> Result<Outcome, Failure> {
    let (resolved, rank, weights) = if let Some(run) = &arguments.run {
        finished_run::open(context, run, &arguments.select.set)?
    } else {
        let (resolved, rank) = context.open(&arguments.select)?;
        (resolved, rank, arguments.weights.clone().unwrap_or_default())
    };
    greet(context, &resolved, &rank);
    let place = place(arguments, &resolved);
    let mut experiment = Experiment {
        resolved: &resolved,
        rank: &rank,
        logging: context.logging,
        place,
        resume: ResumeRequest::never(),
        weights: Some(&weights),
        predictions: arguments.predictions.as_deref(),
        output: output_arguments(context.output_arguments, &rank),
    };
    match experiment.run()? {
        RunEnd::Done(result, folder) => {
            print(context, &result, Some(&folder))?;
            Ok(Outcome::Done)
        }
        RunEnd::Finished(_) => Ok(Outcome::Done),
        RunEnd::Stopped(outcome) => Ok(outcome),
    }
}

fn place(arguments: &EvalArguments, resolved: &Resolved) -> Option<RunDestination> {
    match (&arguments.output, &arguments.run) {
        (Some(path), _) => Some(RunDestination::Named(path.clone())),
        (None, Some(_)) => None,
        (None, None) => {
            let names = resolved.names.clone();
            Some(RunDestination::Default {
                parent: PathBuf::from(DEFAULT_PARENT),
                data: names.data,
                model: names.model,
                method: format!("{}-eval", names.method),
                seed: resolved.config.train.seed,
            })
        }
    }
}
