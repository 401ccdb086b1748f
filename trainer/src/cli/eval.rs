//! `lift-trainer eval`: evaluates the trained tensors of a run or of a file.

use super::CommandContext;
use super::arguments::EvalArguments;
use super::finished_run;
use super::train::{greet, output_arguments, print};
use crate::config::Resolved;
use crate::engine::calibrate::{LogitsFile, Recorded};
use crate::engine::eval::kept_logits::KeptLogits;
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::training::experiment::{Experiment, RunEnd};
use crate::engine::training::resume::ResumeRequest;
use crate::engine::writable;
use crate::run::{DEFAULT_PARENT, RunDestination, RunResult};
use protocol::Outcome;
use std::path::{Path, PathBuf};

/// Evaluates and prints the result; with `--output`, or for a file, also writes them into a separate run folder.
pub(super) fn run(context: &CommandContext<'_>, arguments: &EvalArguments) -> Result<Outcome, Failure> {
    let (resolved, rank, weights) = if let Some(run) = &arguments.run {
        finished_run::open(context, run, &arguments.select.set)?
    } else {
        let (resolved, rank) = context.open(&arguments.select)?;
        (resolved, rank, arguments.weights.clone().unwrap_or_default())
    };
    greet(context, &resolved, &rank);
    agreed(&rank.control, || {
        arguments.logits.as_deref().map_or(Ok(()), |path| writable::check("--logits", path))
    })?;
    let kept = KeptLogits::default();
    let place = place(arguments, &resolved);
    let mut experiment = Experiment {
        resolved: &resolved,
        rank: &rank,
        logging: context.logging,
        place,
        resume: ResumeRequest::never(),
        weights: Some(&weights),
        predictions: arguments.predictions.as_deref(),
        kept: arguments.logits.as_ref().map(|_| &kept),
        output: output_arguments(context.output_arguments, &rank),
    };
    match experiment.run()? {
        RunEnd::Done(result, folder) => {
            if let Some(path) = &arguments.logits {
                write_logits(path, kept, &result, (&weights, &rank))?;
            }
            print(context, &result, Some(&folder))?;
            Ok(Outcome::Done)
        }
        RunEnd::Finished(_) => Ok(Outcome::Done),
        RunEnd::Stopped(outcome) => Ok(outcome),
    }
}

/// Gathers the logits, and writes them on rank 0.
fn write_logits(
    path: &Path,
    kept: KeptLogits,
    result: &RunResult,
    (weights, rank): (&Path, &Rank),
) -> Result<(), Failure> {
    let table = kept.gathered(rank)?;
    agreed(&rank.control, || {
        if !rank.leads() {
            return Ok(());
        }
        let recorded = Recorded {
            class_names: result.per_class.iter().map(|class| class.name.clone()).collect(),
            train_counts: result.per_class.iter().map(|class| class.train_count).collect(),
            split: result.evaluation.split.clone(),
            crops: result.evaluation.crops.clone(),
            trained: finished_run::fingerprint(weights)?,
        };
        LogitsFile { table, recorded }.write(path).map_err(Failure::run)
    })
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
