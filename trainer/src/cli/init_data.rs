//! `lift-trainer init-data`: from a folder of own pictures to a preset, with a report of what is in it.

mod divide;
mod recognise;
mod report;

use super::pack::threads;
use super::work_progress::WorkProgress;
use crate::data::source::{DataSet, Halves, write_split};
use crate::data::survey::survey;
use crate::engine::failure::Failure;
use crate::run::ShotLimits;
use clap::Args;
use divide::{Division, divide};
use protocol::command_line::OutputArguments;
use protocol::terminal;
use protocol::write_atomically;
use recognise::{FoundData, recognise};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

const EXAMPLES: &str = "Examples:
  lift-trainer init-data flowers                  class folders, a table (CSV, TSV, JSON lines), Parquet, shards, annotations
  lift-trainer train -d flowers.toml -m clip_vit_b16 --set model.weights=FILE";

/// Arguments of `init-data`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InitDataArguments {
    /// Folder of the pictures
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Preset to write [default: NAME.toml in the current folder, after the name of DIR]; the split file is beside it
    #[arg(short, long, value_name = "FILE.toml")]
    pub output: Option<PathBuf>,
    /// Share of each class that tests, where the data have no test pictures
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = share)]
    pub test: f64,
    /// Seed of the split
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Column of the image names or bytes
    #[arg(long, value_name = "NAME")]
    pub image_column: Option<String>,
    /// Column of the labels
    #[arg(long, value_name = "NAME")]
    pub label_column: Option<String>,
    /// Smallest number of the labels: 1 where they count from 1
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub first_label: u32,
    /// Training images of the medium classes, from the first to the second number; classes with more are many, with fewer few
    #[arg(long, value_name = "FROM,TO", default_value = "20,100", value_parser = groups)]
    pub groups: ShotLimits,
    /// Replace an existing preset
    #[arg(long)]
    pub force: bool,
    /// Threads; 0 uses all cores
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1024))]
    pub threads: u32,
}

fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok();
    share
        .filter(|share| (0.01..=0.9).contains(share))
        .ok_or_else(|| "expected a share from 0.01 to 0.9".to_owned())
}

fn groups(text: &str) -> Result<ShotLimits, String> {
    let numbers = text.split_once(',').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    numbers
        .filter(|(from, to)| from <= to)
        .map(|(from, to)| ShotLimits { from, to })
        .ok_or_else(|| "expected two numbers, such as 5,20".to_owned())
}

/// Reads all pictures, prints what they are, and writes the preset.
pub(super) fn run(arguments: &InitDataArguments, output_arguments: OutputArguments) -> Result<(), Failure> {
    let preset = preset_path(arguments)?;
    let found = recognise(arguments)?;
    let set = DataSet::open(&found.spec).map_err(Failure::input)?;
    let surveyed = [&set.train, &set.test].map(|split| {
        let progress = WorkProgress::start("reading", split.len(), output_arguments.quiet);
        let surveyed = survey(split, threads(arguments.threads), &|count| progress.add(count));
        progress.finish();
        surveyed
    });
    let division = (found.spec.halves == Halves::Whole)
        .then(|| divide(&set.train, &surveyed[0], set.class_names.len(), arguments.test, arguments.seed));
    if division.as_ref().is_some_and(|division| division.train == 0 || division.test == 0) {
        return Err(Failure::input(format!(
            "`{}` has too few pictures to train and to test; expected two of a class at least",
            arguments.folder.display()
        )));
    }
    write(&preset, &found, &set, division.as_ref(), arguments.groups)?;
    report::print(
        &report::Report {
            preset: &preset,
            found: &found,
            set: &set,
            surveyed: &surveyed,
            division: division.as_ref(),
            limits: arguments.groups,
        },
        output_arguments,
    )
}

/// Where the preset goes; refused if it is there.
fn preset_path(arguments: &InitDataArguments) -> Result<PathBuf, Failure> {
    let path = arguments.output.clone().unwrap_or_else(|| {
        let folder = arguments.folder.canonicalize().unwrap_or_else(|_| arguments.folder.clone());
        let name =
            folder.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned());
        PathBuf::from(format!("{name}.toml"))
    });
    if path.extension().is_none_or(|ending| ending != "toml") {
        return Err(Failure::input(format!(
            "expected a file that ends in `.toml` as `--output`, found `{}`",
            path.display()
        )));
    }
    if path.exists() && !arguments.force {
        return Err(Failure::input(format!(
            "`{}` exists\nhint: choose another `--output`, or replace it with `--force`",
            path.display()
        )));
    }
    Ok(path)
}

fn write(
    preset: &Path,
    found: &FoundData,
    set: &DataSet,
    division: Option<&Division>,
    limits: ShotLimits,
) -> Result<(), Failure> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::run(format!("cannot write `{}`: {error}", path.display()))
    };
    let mut data = found.options.clone();
    if let Some(division) = division {
        let path = preset.with_extension("split.csv");
        let text = write_split(&set.train, &division.halves).map_err(|error| failed(&path, &error))?;
        write_atomically(&path, &text).map_err(|error| failed(&path, &error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        data.insert("split".into(), Value::String(name));
    }
    let count = set.train.len() + set.test.len();
    let mut sections = Table::from_iter([("data".to_owned(), Value::Table(data))]);
    if limits != ShotLimits::default() {
        let groups = [limits.from, limits.to].map(|limit| Value::Integer(limit as i64));
        sections.insert(
            "eval".into(),
            Value::Table(Table::from_iter([("groups".into(), groups.to_vec().into())])),
        );
    }
    let text = toml::to_string(&sections).map_err(|error| failed(preset, &error))?;
    let text = format!("# {count} own images of {} classes.\n\n{text}", set.class_names.len());
    write_atomically(preset, text.as_bytes()).map_err(|error| failed(preset, &error))
}

/// Quotes a path for a shell.
fn shell(path: &Path) -> String {
    terminal::shell_words(&[path.as_os_str()])
}
