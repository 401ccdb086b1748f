//! `lift-trainer predict`: the most probable classes of images, by a finished run.

mod inputs;
mod output;

use super::CommandContext;
use super::finished_run;
use super::train::{greet, output_arguments};
use crate::config::{EvalSplit, PrecisionName};
use crate::data::source::Split;
use crate::engine::calibrate::{Partition, SetMaker};
use crate::engine::failure::{Failure, agreed};
use crate::engine::predict::{Adjustment, AppliedRun, Prediction, PredictionRun, Rule};
use crate::engine::setup::session::Session;
use crate::engine::writable;
use crate::run::{Calibration, ProgressPlan, Reporter, RunResult, say};
use clap::{Args, ValueEnum};
use inputs::InputImage;
use output::Table;
use protocol::Outcome;
use protocol::terminal;
use std::path::PathBuf;

/// Arguments of `predict`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PredictArguments {
    /// Run folder of a finished run
    #[arg(long)]
    pub run: PathBuf,
    /// Images; folders, which are searched; lists of paths, one per line; JSON files of iNaturalist (`images` with
    /// `file_name` and `id`); or - for a list on standard input
    #[arg(required = true, value_name = "IMAGE|DIR|LIST|-")]
    pub inputs: Vec<PathBuf>,
    /// Classes of each image
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,
    /// Form of the output [default: table, or jsonl with --json]
    #[arg(long, value_enum)]
    pub format: Option<PredictionFormat>,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Folder of the relative paths in lists [default: that of the list; for -, the working directory]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Use the temperature and the class distribution that `lift-trainer calibrate` found
    #[arg(long)]
    pub calibrated: bool,
    /// Also print the set of classes that contains the right one with the coverage of `lift-trainer calibrate`; implies
    /// --calibrated
    #[arg(long, value_enum, value_name = "KIND", num_args = 0..=1, require_equals = true, default_missing_value = "marginal")]
    pub sets: Option<Partition>,
    /// Fold the tuners into the weights first, where they can be (lora, ssf, ia3, masked): the same up to rounding, faster
    #[arg(long)]
    pub fold: bool,
    /// Set a path that has moved (model.weights), the device, or the view of the images (eval.crops); may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

const EXAMPLES: &str = "Examples:
  lift-trainer predict --run runs/NAME photo.jpg
  find photos -name '*.jpg' | lift-trainer predict --run runs/NAME --format csv -
  mpirun -n 8 lift-trainer predict --run runs/NAME --format inat --top 1 --root DIR \\
      --output submission.csv test2018.json";

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PredictionFormat {
    /// A line per class, for people
    Table,
    /// A JSON object per image
    Jsonl,
    /// A line per class: image, rank, class, name, probability
    Csv,
    /// A line per image for a challenge of iNaturalist: id, and its classes with spaces in between
    Inat,
}

/// Predicts, and prints or writes the predictions on rank 0.
pub(super) fn run(context: &CommandContext<'_>, arguments: &PredictArguments) -> Result<Outcome, Failure> {
    let (mut resolved, rank, weights) = finished_run::open(context, &arguments.run, &arguments.set)?;
    resolved.config.eval.split = EvalSplit::Test;
    agreed(&rank.control, || {
        if arguments.sets.is_some() && arguments.format == Some(PredictionFormat::Inat) {
            let message = "--sets has no effect with --format inat\nhint: leave one of them out";
            return Err(Failure::input(message));
        }
        arguments.output.as_deref().map_or(Ok(()), |path| writable::check("--output", path))
    })?;
    let images = inputs::of_all_ranks(&arguments.inputs, arguments.root.as_deref(), &rank)?;
    greet(context, &resolved, &rank);
    let paths = images.iter().map(|image| image.path.clone()).collect();
    let talks = rank.leads() && !context.output_arguments.quiet;
    let report = |note: &str| {
        if talks {
            say(note);
        }
    };
    let split = Split::of_paths(paths);
    let AppliedRun { mut session, result } =
        AppliedRun::open(&arguments.run, &weights, &resolved, split, &rank, &report)?;
    let rule = agreed(&rank.control, || rule(arguments, &result))?;
    if result.calibration.is_some() && !arguments.is_calibrated() {
        report("the run is calibrated: --calibrated and --sets use it");
    }
    if arguments.fold {
        agreed(&rank.control, || fold(&mut session))?;
    }
    let plan = ProgressPlan { epochs: 0, steps: 0, steps_done: 0, steps_per_line: 0 };
    let mut reporter = Reporter::new(output_arguments(context.output_arguments, &rank), plan);
    let done = PredictionRun::make(&session, &rule, &rank, &mut reporter)?;
    reporter.finish();
    if !rank.leads() {
        return Ok(Outcome::Done);
    }
    let format = arguments.format.unwrap_or(if context.output_arguments.json {
        PredictionFormat::Jsonl
    } else {
        PredictionFormat::Table
    });
    let coverage = arguments.sets.and(result.calibration.as_ref()).map(|found| found.wanted);
    let table = Table {
        images: &images,
        predictions: &done.predictions,
        class_names: &session.class_names,
        coverage,
    };
    output::write(&table, format, arguments.output.as_deref())?;
    finish(&images, &done, &report)
}

/// In bf16 the folded weights would be rounded once more than the tuners beside them.
fn fold(session: &mut Session) -> Result<(), Failure> {
    if session.config.train.precision == PrecisionName::Bf16 {
        let message =
            "--fold needs a run with train.precision=fp32, tf32 or fp64, found bf16\nhint: leave it out";
        return Err(Failure::input(message));
    }
    session.model.fold().map_err(Failure::input)
}

impl PredictArguments {
    fn is_calibrated(&self) -> bool {
        self.calibrated || self.sets.is_some()
    }
}

/// How the logits of the run become predictions.
fn rule(arguments: &PredictArguments, result: &RunResult) -> Result<Rule, Failure> {
    let most = arguments.top as usize;
    if !arguments.is_calibrated() {
        let adjustment = Adjustment { scale: 1.0, offset: None };
        return Ok(Rule { most, adjustment, sets: None });
    }
    let found = calibration(arguments, result)?;
    let adjustment = Adjustment { scale: 1.0 / found.temperature, offset: found.log_prior.clone() };
    let set_maker = |partition| SetMaker::of(found, partition, result.per_class.len());
    let sets = arguments.sets.map(set_maker).transpose().map_err(|error| {
        let run = arguments.run.display();
        let message = format!("`{run}`: {error}\nhint: run `lift-trainer calibrate --run {run}` again");
        Failure::input(message)
    })?;
    Ok(Rule { most, adjustment, sets })
}

fn calibration<'a>(arguments: &PredictArguments, result: &'a RunResult) -> Result<&'a Calibration, Failure> {
    let flag = if arguments.sets.is_some() { "--sets" } else { "--calibrated" };
    result.calibration.as_ref().ok_or_else(|| {
        let run = arguments.run.display();
        Failure::input(format!(
            "`{run}` is not calibrated\nhint: run `lift-trainer calibrate --run {run}` first, or leave out {flag}"
        ))
    })
}

/// Reports the speed; that no image could be read is a failure.
fn finish(images: &[InputImage], done: &PredictionRun, report: &dyn Fn(&str)) -> Result<Outcome, Failure> {
    let unreadable = done.predictions.iter().filter(|made| matches!(made, Prediction::Unreadable(_))).count();
    let speed = images.len() as f64 / done.seconds.max(f64::MIN_POSITIVE);
    let plural = if images.len() == 1 { "" } else { "s" };
    report(&format!("{} image{plural} in {:.1} s, {speed:.1} images a second", images.len(), done.seconds));
    if unreadable == images.len() {
        return Err(Failure::run("none of the images can be read").on_all_ranks());
    }
    if unreadable > 0 {
        terminal::say(format_args!("warning: {unreadable} of {} images cannot be read", images.len()));
    }
    Ok(Outcome::Done)
}
