//! `lift-trainer eval`: evaluates the trained tensors of a run or of a file.

use super::CommandContext;
use super::arguments::EvalArguments;
use super::train::{greet, output_arguments, print};
use crate::config::Resolved;
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::training::experiment::{Experiment, RunEnd};
use crate::engine::training::resume::{ResumeRequest, is_free};
use crate::run::{DEFAULT_PARENT, RunDestination};
use protocol::{Outcome, layout};
use std::path::{Path, PathBuf};

/// Evaluates and prints the result; with `--output`, or for a file, also writes them into a separate run folder.
pub(super) fn run(context: &CommandContext<'_>, arguments: &EvalArguments) -> Result<Outcome, Failure> {
    let (resolved, rank, weights) = if let Some(run) = &arguments.run {
        of_run(context, run, &arguments.select.set)?
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

/// Configuration and final weights of a run, with the changes in `set`, such as moved paths.
fn of_run(
    context: &CommandContext<'_>,
    run: &Path,
    set: &[String],
) -> Result<(Resolved, Rank, PathBuf), Failure> {
    let control = context.world.control().map_err(Failure::run)?;
    let resolved = agreed(&control, || configuration(run, set))?;
    let absent = resolved.absent();
    if !absent.is_empty() && context.world.rank() == 0 {
        tracing::warn!(
            "the run was written by an older version; the defaults of {} are used",
            absent.join(", ")
        );
    }
    let weights = run.join(layout::FINAL_WEIGHTS);
    agreed(&control, || {
        let missing =
            || format!("`{}` does not exist: the training of the run has not finished", weights.display());
        if weights.exists() { Ok(()) } else { Err(Failure::input(missing())) }
    })?;
    let rank = context.rank(&resolved.config)?;
    Ok((resolved, rank, weights))
}

fn configuration(run: &Path, set: &[String]) -> Result<Resolved, Failure> {
    let path = run.join(layout::CONFIG);
    let cannot_read = |error| {
        let path = path.display();
        Failure::input(format!("cannot read `{path}`: {error}; --run needs the folder of a run"))
    };
    let text = std::fs::read_to_string(&path).map_err(cannot_read)?;
    let recorded = Resolved::from_run_folder(&text).map_err(Failure::input)?;
    let folder = std::env::current_dir()
        .map_err(|error| Failure::input(format!("cannot read the working directory: {error}")))?;
    let resolved = recorded.changed(set, &folder).map_err(Failure::input)?;
    let is_of_evaluation =
        |key: &str| is_free(key) || (key.starts_with("eval.") && key != "eval.every_epochs");
    match recorded.diff(&resolved).into_iter().find(|change| !is_of_evaluation(&change.key)) {
        None => Ok(resolved),
        Some(change) => Err(Failure::input(format!(
            "{} is {} in the run and {} now; with --run, expected only changed paths (data.root) and settings of the evaluation (eval.crops)\nhint: to change other settings, evaluate the tensors with `lift-trainer eval --weights {} -d DATA -m MODEL --method METHOD --set ...`",
            change.key,
            change.left,
            change.right,
            run.join(layout::FINAL_WEIGHTS).display()
        ))),
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
