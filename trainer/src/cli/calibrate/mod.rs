//! `lift-trainer calibrate`: temperature, class distribution and conformal sets of a finished run.

mod output;
mod source;

use super::CommandContext;
use super::finished_run;
use super::train::{greet, output_arguments};
use crate::config::Resolved;
use crate::engine::calibrate::{CalibrationPlan, Distribution, LogitsFile, LogitsTable, Score};
use crate::engine::eval::kept_logits::KeptLogits;
use crate::engine::failure::{Failure, agreed};
use crate::engine::training::experiment::{Experiment, RunEnd};
use crate::engine::training::resume::ResumeRequest;
use crate::engine::writable;
use crate::run::{Claim, RunResult};
use clap::Args;
use protocol::{Outcome, layout};
use std::path::{Path, PathBuf};

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CalibrateArguments {
    /// Run folder of a finished run; the figures are added to its result.json
    #[arg(long)]
    pub run: PathBuf,
    /// Logits of `eval --run RUN --logits FILE` [default: evaluate the test images again]
    #[arg(long, value_name = "FILE")]
    pub logits: Option<PathBuf>,
    /// Class distribution that the probabilities are to be for: none leaves the logits as they are, uniform, train (that
    /// of the training images), or a file with a share or a count per line in label order
    #[arg(long, value_name = "none|uniform|train|FILE", default_value = "none")]
    pub target: String,
    /// Class distribution that the logits are for [default: what the loss of the run trains for]
    #[arg(long, value_name = "uniform|train|FILE")]
    pub source: Option<String>,
    /// Divisor of the logits; 1 keeps the probabilities of the model [default: fitted]
    #[arg(long, value_name = "NUMBER", value_parser = divisor)]
    pub temperature: Option<f64>,
    /// Share of images whose set is to contain the label
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = share)]
    pub coverage: f64,
    /// What the sets are ordered by
    #[arg(long, value_enum, default_value = "raps")]
    pub score: Score,
    /// Share of the images that temperature and thresholds are fitted on; the figures are those of the others
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = share)]
    pub fit_share: f64,
    /// Seed of the division of the images
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write the part of each image (temperature, thresholds or reported) to FILE, as CSV
    #[arg(long, value_name = "FILE")]
    pub parts: Option<PathBuf>,
    /// Set a path that has moved (data.root, model.weights), the device, or the view (eval.crops); may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

const EXAMPLES: &str = "Examples:
  lift-trainer calibrate --run runs/NAME
  lift-trainer calibrate --run runs/NAME --logits FILE --target train --score lac --coverage 0.95";

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("expected a number between 0 and 1".to_owned()),
    }
}

fn divisor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(divisor) if (0.001..=1000.0).contains(&divisor) => Ok(divisor),
        _ => Err("expected a number from 0.001 to 1000".to_owned()),
    }
}

/// Calibrates, adds the figures to the result of the run, and prints them.
pub(super) fn run(context: &CommandContext<'_>, arguments: &CalibrateArguments) -> Result<Outcome, Failure> {
    let resolved = finished_run::configuration_on_all_ranks(context, &arguments.run, &arguments.set)?;
    let control = context.world.control().map_err(Failure::run)?;
    let result = agreed(&control, || finished_run::result(&arguments.run))?;
    let plan = agreed(&control, || {
        arguments.parts.as_deref().map_or(Ok(()), |path| writable::check("--parts", path))?;
        plan(arguments, &resolved, &result)
    })?;
    let table = match &arguments.logits {
        Some(path) => {
            if let Some(set) = arguments.set.first() {
                let message = format!("--set {set} has no effect with --logits\nhint: leave one of them out");
                return Err(Failure::input(message).on_all_ranks());
            }
            agreed(&control, || logits_of_run(path, &arguments.run))?
        }
        None => match evaluated(context, arguments, &resolved)? {
            Ok(table) => table,
            Err(stopped) => return Ok(stopped),
        },
    };
    agreed(&control, || {
        if context.world.rank() != 0 {
            return Ok(());
        }
        let counts: Vec<u64> = result.per_class.iter().map(|class| class.train_count).collect();
        let calibration = plan.run(&table, &counts).map_err(Failure::input)?;
        if let Some(path) = &arguments.parts {
            output::write_parts(path, &table, &plan.divide(table.len()).map_err(Failure::input)?)?;
        }
        let claim = Claim::take(&arguments.run).map_err(Failure::of_folder)?;
        let result = RunResult { calibration: Some(calibration.clone()), ..result };
        claim.check().map_err(Failure::run)?;
        result.write(&arguments.run).map_err(Failure::run)?;
        output::print(&calibration, context.output_arguments)
    })?;
    Ok(Outcome::Done)
}

fn plan(
    arguments: &CalibrateArguments,
    resolved: &Resolved,
    result: &RunResult,
) -> Result<CalibrationPlan, Failure> {
    let counts: Vec<u64> = result.per_class.iter().map(|class| class.train_count).collect();
    let named = |word: &str| named(word, &counts);
    let shift = match arguments.target.as_str() {
        "none" => {
            if let Some(source) = &arguments.source {
                return Err(Failure::input(format!(
                    "--source {source} has no effect without --target\nhint: add --target, or leave it out"
                )));
            }
            None
        }
        target => {
            let source = match &arguments.source {
                Some(source) => named(source)?,
                None => source::of_training(&resolved.config, &counts)?,
            };
            Some((target.to_owned(), named(target)?, source))
        }
    };
    let CalibrateArguments { coverage, score, fit_share, seed, temperature, .. } = *arguments;
    let limits = resolved.config.eval.limits();
    Ok(CalibrationPlan { fit_share, seed, coverage, score, shift, limits, temperature })
}

/// A class distribution by its word, or of a file.
fn named(word: &str, counts: &[u64]) -> Result<Distribution, Failure> {
    match word {
        "uniform" => Ok(Distribution::uniform(counts.len())),
        "train" => Ok(Distribution::of_counts(counts)),
        path => Distribution::read(Path::new(path), counts.len()).map_err(Failure::input),
    }
}

/// The logits of a file, if this run's tensors made them, of images that it was not trained on.
fn logits_of_run(path: &Path, run: &Path) -> Result<LogitsTable, Failure> {
    let file = LogitsFile::read(path).map_err(Failure::input)?;
    let weights = run.join(layout::FINAL_WEIGHTS);
    if file.recorded.trained != finished_run::fingerprint(&weights)? {
        return Err(Failure::input(format!(
            "the logits in `{}` are not those of `{}`\nhint: write them with `lift-trainer eval --run {} --logits FILE`",
            path.display(),
            weights.display(),
            run.display()
        )));
    }
    if file.recorded.split == "train" {
        return Err(Failure::input(format!(
            "the logits in `{}` are of training images, on which a model is more certain than on others\nhint: write those of test images, without eval.split=train",
            path.display()
        )));
    }
    Ok(file.table)
}

/// Evaluates the test images over all ranks; the logits are on rank 0. An inner error is a stop on request.
fn evaluated(
    context: &CommandContext<'_>,
    arguments: &CalibrateArguments,
    resolved: &Resolved,
) -> Result<Result<LogitsTable, Outcome>, Failure> {
    let (rank, weights) = finished_run::rank_and_weights(context, &arguments.run, resolved)?;
    if resolved.config.eval.split == crate::config::EvalSplit::Train {
        let message = "eval.split=train: a model is more certain on training images than on others\nhint: calibrate on test images, with --set eval.split=test";
        return Err(Failure::input(message).on_all_ranks());
    }
    greet(context, resolved, &rank);
    let kept = KeptLogits::default();
    let mut experiment = Experiment {
        resolved,
        rank: &rank,
        logging: context.logging,
        place: None,
        resume: ResumeRequest::never(),
        weights: Some(&weights),
        predictions: None,
        kept: Some(&kept),
        output: output_arguments(context.output_arguments, &rank),
    };
    if let RunEnd::Stopped(outcome) = experiment.run()? {
        return Ok(Err(outcome));
    }
    kept.gathered(&rank).map(Ok)
}
