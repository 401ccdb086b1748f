//! A finished run as the input of a command: its configuration and its final tensors.

use super::CommandContext;
use crate::config::Resolved;
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::training::resume::is_free;
use crate::run::RunResult;
use protocol::layout;
use protocol::numbers::hex;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The configuration, this process as a rank of it, and the file of final tensors, with the changes in `set`, such as moved
/// paths.
pub(super) fn open(
    context: &CommandContext<'_>,
    run: &Path,
    set: &[String],
) -> Result<(Resolved, Rank, PathBuf), Failure> {
    let resolved = configuration_on_all_ranks(context, run, set)?;
    let (rank, weights) = rank_and_weights(context, run, &resolved)?;
    Ok((resolved, rank, weights))
}

/// The configuration alone, for a command that changes more of it.
pub(super) fn configuration_on_all_ranks(
    context: &CommandContext<'_>,
    run: &Path,
    set: &[String],
) -> Result<Resolved, Failure> {
    let control = context.world.control().map_err(Failure::run)?;
    let resolved = agreed(&control, || configuration(run, set))?;
    let absent = resolved.absent();
    if !absent.is_empty() && context.world.rank() == 0 {
        tracing::warn!(
            "the run was written by an older version; the defaults of {} are used",
            absent.join(", ")
        );
    }
    Ok(resolved)
}

/// What a run recorded when it finished.
pub(super) fn result(run: &Path) -> Result<RunResult, Failure> {
    final_weights(run)?;
    RunResult::read(run).map_err(Failure::input)
}

/// The file of the final tensors, which exists once the training has finished.
fn final_weights(run: &Path) -> Result<PathBuf, Failure> {
    let weights = run.join(layout::FINAL_WEIGHTS);
    if weights.exists() {
        return Ok(weights);
    }
    Err(Failure::input(format!(
        "`{}` does not exist: the training of the run has not finished\nhint: repeat the command that started it, with `--resume auto`",
        weights.display()
    )))
}

/// This process as a rank of a finished run, and the file of its final tensors.
pub(super) fn rank_and_weights(
    context: &CommandContext<'_>,
    run: &Path,
    resolved: &Resolved,
) -> Result<(Rank, PathBuf), Failure> {
    let control = context.world.control().map_err(Failure::run)?;
    let weights = agreed(&control, || final_weights(run))?;
    Ok((context.rank(&resolved.config)?, weights))
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

/// SHA-256 of a file of trained tensors, in hexadecimal.
pub(super) fn fingerprint(weights: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::input(format!("cannot read `{}`: {error}", weights.display()));
    Ok(hex(&Sha256::digest(std::fs::read(weights).map_err(failed)?)))
}
