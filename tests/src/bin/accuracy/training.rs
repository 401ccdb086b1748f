//! Repeats official trainings with three seeds, and compares the means with the official figures.

use crate::Compared;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use tests::{json, metrics};

/// A training that is repeated with several seeds.
pub struct Repeated<'a> {
    /// Name in the table.
    pub name: String,
    /// Prefix of the run folders; the seed follows.
    pub folder: String,
    /// Results of the official code.
    pub expected: OfficialFigures,
    /// The command of a run with a seed, without its output folder.
    pub command: Box<dyn Fn(u64) -> Command + Sync + 'a>,
}

/// Accuracy overall, many, medium and few in percent; mean loss of the first and of the last epoch.
#[derive(Debug, Clone, Copy)]
pub struct OfficialFigures(pub [f64; 6]);

/// Maximum differences between the mean of our seeds and the official figures.
pub struct DifferenceLimits {
    pub overall: f64,
    pub group: f64,
    pub loss: f64,
}

const SEEDS: [u64; 3] = [0, 1, 2];
const NAMES: [&str; 6] =
    ["overall", "many", "medium", "few", "loss of the first epoch", "loss of the last epoch"];
const HEADER: [&str; 2] = [
    "| run | seeds | overall | many | medium | few | loss, first epoch | loss, last epoch | seconds per run |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
];

pub fn compare(repeated: &[Repeated], limits: &DifferenceLimits, runs: &Path) -> Compared {
    let mut excessive = train_missing(repeated, runs);
    let mut table = HEADER.map(str::to_owned).to_vec();
    for one in repeated {
        table.extend(rows(one, limits, runs, &mut excessive));
    }
    Compared { table, excessive }
}

/// Trains all runs without a result, one per core at a time. Returns the failures, which do not stop other runs.
fn train_missing(repeated: &[Repeated], runs: &Path) -> Vec<String> {
    let each = SEEDS.into_iter().flat_map(|seed| repeated.iter().map(move |one| (one, seed)));
    let missing =
        Mutex::new(each.filter(|(one, seed)| !runs.join(run_name(one, *seed)).join("result.json").exists()));
    let failed = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let next = || missing.lock().expect("no thread panics here").next();
                while let Some((one, seed)) = next() {
                    if let Err(failure) = train(one, seed, runs) {
                        failed.lock().expect("no thread panics here").push(failure);
                    }
                }
            });
        }
    });
    failed.into_inner().expect("every thread has ended")
}

fn train(one: &Repeated, seed: u64, runs: &Path) -> Result<(), String> {
    let run = runs.join(run_name(one, seed));
    // Removes the folder of an interrupted run.
    let _ = std::fs::remove_dir_all(&run);
    eprintln!("training {} with seed {seed}", one.name);
    let mut command = (one.command)(seed);
    let output = command.arg("--quiet").arg("--output").arg(&run).output();
    let output = output.map_err(|error| format!("{} with seed {seed}: {error}", one.name))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{} with seed {seed}: {}\n{}", one.name, output.status, tests::stderr(&output)))
}

fn run_name(one: &Repeated, seed: u64) -> String {
    format!("{}-seed{seed}", one.folder)
}

/// The rows of our figures, of the official ones and of their differences. Adds differences above the limit to
/// `excessive`.
fn rows(one: &Repeated, limits: &DifferenceLimits, runs: &Path, excessive: &mut Vec<String>) -> Vec<String> {
    let folders = SEEDS.map(|seed| runs.join(run_name(one, seed)));
    let found: Vec<Vec<f64>> =
        folders.iter().filter(|run| run.join("result.json").exists()).map(|run| figures(run)).collect();
    let column = |i: usize| found.iter().map(|values| values[i]).collect::<Vec<f64>>();
    let (mut ours, mut official, mut differences) = (Vec::new(), Vec::new(), Vec::new());
    for (i, (name, expected)) in NAMES.into_iter().zip(one.expected.0).enumerate() {
        let (mean, spread) = mean_and_spread(&column(i));
        let (limit, digits) = match i {
            0 => (limits.overall, 2),
            1..=3 => (limits.group, 2),
            _ => (limits.loss, 3),
        };
        ours.push(format!("{mean:.digits$} ± {spread:.digits$}"));
        official.push(format!("{expected:.digits$}"));
        let difference = mean - expected;
        let is_within_limit = difference.abs() <= limit;
        differences
            .push(format!("{difference:+.digits$}{}", if is_within_limit { "" } else { " (too large)" }));
        if !is_within_limit {
            excessive.push(format!("{}: {name} is {mean:.digits$}, officially {expected:.digits$}; expected a difference of at most {limit}", one.name));
        }
    }
    let (seconds, _) = mean_and_spread(&column(NAMES.len()));
    vec![
        format!("| {}, ours | {} | {} | {seconds:.0} |", one.name, found.len(), ours.join(" | ")),
        format!("| {}, official | | {} | |", one.name, official.join(" | ")),
        format!("| difference | | {} | |", differences.join(" | ")),
    ]
}

/// The figures of a finished run, and its duration in seconds.
fn figures(run: &Path) -> Vec<f64> {
    let result = json(&run.join("result.json"));
    let epochs = metrics(run, "epoch");
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let loss = |row: Option<&Value>| row.map_or(f64::NAN, |row| number(&row["loss"]));
    let [overall, many, medium, few, seconds] =
        ["accuracy", "many", "medium", "few", "seconds"].map(|name| number(&result[name]));
    vec![overall, many, medium, few, loss(epochs.first()), loss(epochs.last()), seconds]
}

/// Mean and sample standard deviation; NaN if there are too few values.
fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (mean, (squares / (count - 1.0)).sqrt())
}
