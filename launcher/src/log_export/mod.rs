//! `lift log-export`: the metrics of a run for other programs, after the run.

mod csv;
mod mlflow;
mod tensorboard;

use crate::records::{RecordError, RunRecords};
use clap::{Args, ValueEnum};
use protocol::terminal::{self, OutputError};
use protocol::{Outcome, Timestamp, layout};
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use trackers::Scalars;

/// Options of `lift log-export`.
#[derive(Debug, Args)]
pub struct LogExportOptions {
    /// Run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Program that reads the export
    #[arg(long, value_enum)]
    pub to: Tracker,
    /// Folder to write into [default: RUN/tensorboard, RUN/csv, or mlruns in this folder]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// A program that reads metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tracker {
    /// An event file: `tensorboard --logdir DIR`
    Tensorboard,
    /// steps.csv, epochs.csv and evaluations.csv
    Csv,
    /// A run in the local file store, which newer versions of MLflow read with `MLFLOW_ALLOW_FILE_STORE=true`
    Mlflow,
}

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogExportError {
    /// The run cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The run has no metrics.
    #[error("`{}` has no metrics to export", path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// The export is there already.
    #[error("`{}` exists already\nhint: remove it, or choose another --output", path.display())]
    Exists {
        /// The file or folder.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Standard output does not accept the path.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl LogExportError {
    /// The exit code of the error.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Record(_) | Self::Nothing { .. } | Self::Exists { .. } => Outcome::WrongInput,
            Self::Write { .. } | Self::Output(_) => Outcome::Failed,
        }
    }
}

/// A line of metrics, and when it was written.
struct TimedLine {
    fields: Value,
    /// Seconds since 1970. Lines have no time: this is computed back from the end of the run, with the seconds of steps and
    /// evaluations.
    time: f64,
}

/// Writes the export and prints where it is.
pub fn run(options: &LogExportOptions) -> Result<Outcome, LogExportError> {
    let records = RunRecords::read(&options.run)?;
    let lines = timed(lines(&options.run)?, end(&options.run, &records));
    if lines.is_empty() {
        return Err(LogExportError::Nothing { path: options.run.clone() });
    }
    let output = options.output.clone().unwrap_or_else(|| match options.to {
        Tracker::Tensorboard => options.run.join("tensorboard"),
        Tracker::Csv => options.run.join("csv"),
        Tracker::Mlflow => PathBuf::from("mlruns"),
    });
    let written = match options.to {
        Tracker::Tensorboard => tensorboard::write(&lines, &output)?,
        Tracker::Csv => csv::write(&lines, &output)?,
        Tracker::Mlflow => mlflow::write(&records, &lines, &output)?,
    };
    terminal::print(&format!("{}\n", written.display()))?;
    Ok(Outcome::Done)
}

/// The complete lines, which the reader of records has checked.
fn lines(run: &Path) -> Result<Vec<Value>, LogExportError> {
    let path = run.join(layout::METRICS);
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        text => text.map_err(|source| RecordError::Read { path, source })?,
    };
    let whole = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    Ok(whole.filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// When the run ended, in seconds since 1970: the time of its status, or that of its metrics.
fn end(run: &Path, records: &RunRecords) -> f64 {
    let changed = run.join(layout::METRICS).metadata().and_then(|data| data.modified());
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    match &records.status {
        Some(status) => seconds(SystemTime::now()) - Timestamp::now().since(status.time).as_secs_f64(),
        None => changed.map_or(0.0, seconds),
    }
}

fn timed(lines: Vec<Value>, end: f64) -> Vec<TimedLine> {
    let mut elapsed = 0.0;
    let ends: Vec<f64> = lines
        .iter()
        .map(|line| {
            elapsed += seconds(line);
            elapsed
        })
        .collect();
    let times = ends.into_iter().map(|at| end - elapsed + at);
    lines.into_iter().zip(times).map(|(fields, time)| TimedLine { fields, time }).collect()
}

/// Seconds that a line stands for; those of an epoch are those of its steps.
fn seconds(line: &Value) -> f64 {
    let number = |name: &str| line.get(name).and_then(Value::as_f64);
    let seconds = match line.get("kind").and_then(Value::as_str) {
        Some("step") => {
            number("samples").zip(number("images_per_second")).map(|(samples, speed)| samples / speed)
        }
        Some("eval") => number("seconds"),
        _ => None,
    };
    seconds.filter(|seconds| seconds.is_finite()).unwrap_or(0.0)
}

/// Creates a folder that must not exist.
fn new_folder(path: &Path) -> Result<(), LogExportError> {
    if path.exists() {
        return Err(LogExportError::Exists { path: path.to_owned() });
    }
    std::fs::create_dir_all(path).map_err(|source| LogExportError::Write { path: path.to_owned(), source })
}

/// Writes a new file.
fn write_new(path: &Path, text: impl AsRef<[u8]>) -> Result<(), LogExportError> {
    let failed = |source| LogExportError::Write { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}

/// The figures of a line with its time.
fn scalars(line: &TimedLine) -> Option<(f64, Scalars)> {
    Some((line.time, Scalars::of(&line.fields)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_lead_to_the_end_of_the_run() {
        let step = |step: u64| json!({"kind": "step", "step": step, "samples": 8, "images_per_second": 4.0});
        let epoch = json!({"kind": "epoch", "step": 2, "seconds": 4.0});
        let eval = json!({"kind": "eval", "step": 2, "seconds": 1.0});
        let lines = timed(vec![step(1), step(2), epoch, eval, json!({"kind": "step", "step": 3})], 105.0);
        let times: Vec<f64> = lines.iter().map(|line| line.time).collect();
        assert_eq!(times, [102.0, 104.0, 104.0, 105.0, 105.0]);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("metrics.jsonl"), "").unwrap();
        let options = |to, output| LogExportOptions { run: folder.path().to_owned(), to, output };
        let shown = folder.path().display();
        let error = run(&options(Tracker::Csv, None)).unwrap_err().to_string();
        assert_eq!(error, format!("`{shown}` has no metrics to export"));
        std::fs::write(
            folder.path().join("metrics.jsonl"),
            "{\"kind\":\"epoch\",\"epoch\":0,\"step\":1,\"loss\":1.0}\n",
        )
        .unwrap();
        let error =
            run(&options(Tracker::Tensorboard, Some(folder.path().to_owned()))).unwrap_err().to_string();
        assert_eq!(error, format!("`{shown}` exists already\nhint: remove it, or choose another --output"));
    }
}
