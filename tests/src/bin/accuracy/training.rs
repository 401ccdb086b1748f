//! Trains with three seeds what the official code trained, and compares the means with its figures.

use crate::Compared;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use tests::{json, metrics};

/// What is repeated.
pub struct Repeated<'a> {
    /// How the table calls it.
    pub name: String,
    /// The folders of its runs are called so, and by the seed.
    pub folder: String,
    /// What the official code reached.
    pub expected: OfficialFigures,
    /// The command of a run with a seed, but for its output.
    pub command: Box<dyn Fn(u64) -> Command + Sync + 'a>,
}

/// Overall, many, medium and few in per cent; mean loss of the first and of the last epoch.
#[derive(Debug, Clone, Copy)]
pub struct OfficialFigures(pub [f64; 6]);

/// Greatest difference of the mean of our seeds from the official figure.
pub struct ApartLimits {
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

pub fn compare(repeated: &[Repeated], limits: &ApartLimits, runs: &Path) -> Compared {
    let mut apart = train_missing(repeated, runs);
    let mut table = HEADER.map(str::to_owned).to_vec();
    for one in repeated {
        table.extend(rows(one, limits, runs, &mut apart));
    }
    Compared { table, apart }
}

/// Trains what has no result yet, as many runs at a time as there are cores. What failed is reported, and the others
/// go on.
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
                    if let Err(why) = train(one, seed, runs) {
                        failed.lock().expect("no thread panics here").push(why);
                    }
                }
            });
        }
    });
    failed.into_inner().expect("every thread has ended")
}

fn train(one: &Repeated, seed: u64, runs: &Path) -> Result<(), String> {
    let run = runs.join(run_name(one, seed));
    // What an interrupted run left behind has no result and is in the way.
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

/// Our row, the official one, and their differences; what is too far apart is noted.
fn rows(one: &Repeated, limits: &ApartLimits, runs: &Path, apart: &mut Vec<String>) -> Vec<String> {
    let folders = SEEDS.map(|seed| runs.join(run_name(one, seed)));
    let found: Vec<Vec<f64>> =
        folders.iter().filter(|run| run.join("result.json").exists()).map(|run| figures(run)).collect();
    let column = |i: usize| found.iter().map(|values| values[i]).collect::<Vec<f64>>();
    let (mut ours, mut theirs, mut differences) = (Vec::new(), Vec::new(), Vec::new());
    for (i, (name, expected)) in NAMES.into_iter().zip(one.expected.0).enumerate() {
        let (mean, spread) = mean_and_spread(&column(i));
        let (limit, digits) = match i {
            0 => (limits.overall, 2),
            1..=3 => (limits.group, 2),
            _ => (limits.loss, 3),
        };
        ours.push(format!("{mean:.digits$} ± {spread:.digits$}"));
        theirs.push(format!("{expected:.digits$}"));
        let difference = mean - expected;
        let near = difference.abs() <= limit;
        differences.push(format!("{difference:+.digits$}{}", if near { "" } else { " (apart)" }));
        if !near {
            apart.push(format!("{}: {name} is {mean:.digits$}, officially {expected:.digits$}; at most {limit} apart is expected", one.name));
        }
    }
    let (seconds, _) = mean_and_spread(&column(NAMES.len()));
    vec![
        format!("| {}, ours | {} | {} | {seconds:.0} |", one.name, found.len(), ours.join(" | ")),
        format!("| {}, official | | {} | |", one.name, theirs.join(" | ")),
        format!("| difference | | {} | |", differences.join(" | ")),
    ]
}

/// The figures of a finished run, and its seconds.
fn figures(run: &Path) -> Vec<f64> {
    let result = json(&run.join("result.json"));
    let epochs = metrics(run, "epoch");
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let loss = |row: Option<&Value>| row.map_or(f64::NAN, |row| number(&row["loss"]));
    let [overall, many, medium, few, seconds] =
        ["accuracy", "many", "medium", "few", "seconds"].map(|name| number(&result[name]));
    vec![overall, many, medium, few, loss(epochs.first()), loss(epochs.last()), seconds]
}

/// Mean and sample standard deviation; not a number where there are too few values.
fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (mean, (squares / (count - 1.0)).sqrt())
}
