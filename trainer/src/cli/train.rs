//! `lift-trainer train`.

use super::CommandContext;
use crate::config::Resolved;
use crate::engine::failure::Failure;
use crate::engine::rank::Rank;
use crate::engine::training::experiment::{Experiment, RunEnd};
use crate::engine::training::resume::{Resume, ResumeRequest};
use crate::run::{DEFAULT_PARENT, ProgressOutput, RunDestination, RunResult, print_result, say};
use protocol::command_line::{OutputArguments, SelectionArguments, TrainArguments};
use protocol::{Outcome, environment, layout};
use std::path::{Path, PathBuf};

/// Trains, evaluates, and prints the result.
pub(super) fn run(context: &CommandContext<'_>, arguments: &TrainArguments) -> Result<Outcome, Failure> {
    let predictions = arguments.predictions.as_deref();
    let resume = ResumeRequest {
        from: resume(arguments.resume.as_deref()),
        allow_changed: arguments.allow_changed.clone(),
        restarted: is_restarted(),
    };
    match once(context, &arguments.select, arguments.output.as_deref(), resume, predictions)? {
        RunEnd::Done(result, folder) => {
            print(context, &result, Some(&folder))?;
            Ok(Outcome::Done)
        }
        RunEnd::Finished(folder) => {
            if predictions.is_some() {
                return Err(Failure::input(format!(
                    "the run in `{}` has already finished\nhint: write its predictions with `lift-trainer eval --run {} --predictions FILE`",
                    folder.display(),
                    folder.display()
                ))
                .on_all_ranks());
            }
            if context.world.rank() == 0 {
                let result = RunResult::read(&folder).map_err(Failure::run)?;
                say("the run has already finished");
                print(context, &result, Some(&folder))?;
            }
            Ok(Outcome::Done)
        }
        RunEnd::Stopped(outcome) => Ok(outcome),
    }
}

/// The value of `--resume`; without it, a restarted job resumes.
fn resume(flag: Option<&str>) -> Resume {
    match flag {
        Some("never") => Resume::Never,
        Some("auto") => Resume::Auto,
        Some(path) => Resume::From(PathBuf::from(path)),
        None if is_restarted() => Resume::Auto,
        None => Resume::Never,
    }
}

/// Whether a launcher or Slurm reports that this job was restarted.
fn is_restarted() -> bool {
    let count = |name: &str| std::env::var(name).ok()?.trim().parse::<u64>().ok();
    [environment::RESTART_COUNT, "SLURM_RESTART_COUNT"].into_iter().filter_map(count).any(|count| count > 0)
}

/// Runs one experiment, from its selection to its end.
pub(super) fn once(
    context: &CommandContext<'_>,
    select: &SelectionArguments,
    output: Option<&Path>,
    resume: ResumeRequest,
    predictions: Option<&Path>,
) -> Result<RunEnd, Failure> {
    let (resolved, rank) = context.open(select)?;
    greet(context, &resolved, &rank);
    let place =
        Some(output.map_or_else(|| default_place(&resolved), |path| RunDestination::Named(path.to_owned())));
    let output = output_arguments(context.output_arguments, &rank);
    let (resolved, rank, logging) = (&resolved, &rank, context.logging);
    Experiment { resolved, rank, logging, place, resume, weights: None, predictions, kept: None, output }
        .run()
}

/// Only rank 0 shows progress.
pub(super) fn output_arguments(output_arguments: OutputArguments, rank: &Rank) -> ProgressOutput {
    if rank.leads() { ProgressOutput::choose(output_arguments.quiet) } else { ProgressOutput::Quiet }
}

/// Destination of a run without `--output`.
fn default_place(resolved: &Resolved) -> RunDestination {
    let names = resolved.names.clone();
    RunDestination::Default {
        parent: PathBuf::from(DEFAULT_PARENT),
        data: names.data,
        model: names.model,
        method: names.method,
        seed: resolved.config.train.seed,
    }
}

/// Prints what is about to run, and where.
pub(super) fn greet(context: &CommandContext<'_>, resolved: &Resolved, rank: &Rank) {
    if !rank.leads() || context.output_arguments.quiet {
        return;
    }
    let (names, ranks) = (&resolved.names, rank.world_size());
    let plural = if ranks == 1 { "" } else { "s" };
    say(format_args!(
        "{} on {} with {}, {ranks} rank{plural} ({})",
        names.method,
        names.data,
        names.model,
        rank.group.backend()
    ));
    say(format_args!("computing on {}; presets: {}", rank.placement, resolved.presets));
    if let Some(note) = &rank.idle_gpus {
        say(note);
    }
}

/// Prints the result on rank 0, as a table or as JSON.
pub(super) fn print(
    context: &CommandContext<'_>,
    result: &RunResult,
    folder: Option<&Path>,
) -> Result<(), Failure> {
    if context.world.rank() != 0 {
        return Ok(());
    }
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    match (print_result(result, context.output_arguments.json), folder) {
        (Ok(_), Some(folder)) if !context.output_arguments.json && !context.output_arguments.quiet => {
            say(format_args!("run folder: {}", folder.display()));
        }
        (Ok(_), _) => {}
        // The run is done even if its result cannot be printed.
        (Err(error), Some(folder)) => {
            say(format_args!(
                "warning: {error}; the result is in `{}`",
                folder.join(layout::RESULT).display()
            ));
        }
        (Err(error), None) => return Err(Failure::run(error)),
    }
    Ok(())
}
