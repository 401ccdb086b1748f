//! `metrics.jsonl`: one JSON line per step, evaluation and epoch, appended by rank 0.
//!
//! Lines reach the file whole. A run that is killed can lose the lines of its last second and can leave a torn last
//! line; a resumed run cuts the file back to the position that its checkpoint holds, so that no line is lost
//! or doubled (law 7).

use super::{RunError, Summary};
use serde::{Deserialize, Deserializer, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const WHAT: &str = "the metrics";
/// Lines of steps wait this long at most before they are written, so that `tail -f` shows a living run.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Lines that wait take this much memory at most.
const MOST_WAITING: usize = 64 << 10;
/// No line of this program is longer; a longer one is not metrics.
const LONGEST_LINE: u64 = 1 << 20;

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A training step.
    Step(StepRecord),
    /// An evaluation.
    Eval(EvalRecord),
    /// The end of an epoch.
    Epoch(EpochRecord),
}

/// A training step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The epoch it belongs to, from 0.
    pub epoch: u64,
    /// Its number, from 1 over the whole run.
    pub step: u64,
    /// Mean loss over the global batch, in full precision; null (here NaN) if it is not finite or no image is left.
    #[serde(deserialize_with = "nan_if_null")]
    pub loss: f64,
    /// The learning rate it was made with.
    pub learning_rate: f64,
    /// Images of the global batch, but for those left out; with none the step changed nothing.
    pub samples: u64,
    /// Images a second over all ranks.
    pub images_per_second: f64,
    /// Seconds that rank 0 waited for its images.
    pub data_wait: f64,
    /// Whether loss and gradients were finite; if not, the step changed nothing.
    pub finite: bool,
    /// Bytes that rank 0 sent for tensors in this step.
    #[serde(default)]
    pub bytes: u64,
}

/// An evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// Epochs done.
    pub epoch: u64,
    /// Steps done.
    pub step: u64,
    /// Which images, e.g. `test`.
    pub split: String,
    /// Accuracy and its companions, as in `result.json`.
    #[serde(flatten)]
    pub summary: Summary,
    /// Seconds it took.
    pub seconds: f64,
}

/// The end of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch that ended, from 0.
    pub epoch: u64,
    /// Steps done over the whole run.
    pub step: u64,
    /// Mean of the losses of its steps; null (here NaN) if it is not finite or no step has one.
    #[serde(deserialize_with = "nan_if_null")]
    pub loss: f64,
    /// Images it went through.
    pub samples: u64,
    /// Seconds it took.
    pub seconds: f64,
}

/// Appends to `metrics.jsonl`.
///
/// Step lines are written at the latest with the first line after a second, all others at once, and everything by
/// [`MetricsWriter::flush`] and at the end of the writer's life.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: File,
    /// Bytes in the file, all of whole lines.
    written: u64,
    /// Whole lines that are not in the file yet. Its memory is used again.
    waiting: Vec<u8>,
    last_write: Instant,
}

impl MetricsWriter {
    /// Starts a new file; one that exists is an error.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|error| RunError::io("create", WHAT, path, error))?;
        Ok(Self::new(path, file, 0))
    }

    /// Goes on with a file that exists, after cutting it back to `position`.
    pub fn reopen(path: &Path, position: u64) -> Result<Self, RunError> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| RunError::io("open", WHAT, path, error))?;
        let length = file.metadata().map_err(|error| RunError::io("read", WHAT, path, error))?.len();
        let mut writer = Self::new(path, file, length);
        writer.truncate_to(position)?;
        Ok(writer)
    }

    fn new(path: &Path, file: File, written: u64) -> Self {
        Self { path: path.to_path_buf(), file, written, waiting: Vec::new(), last_write: Instant::now() }
    }

    /// Adds a line.
    pub fn append(&mut self, record: &Record) -> Result<(), RunError> {
        let start = self.waiting.len();
        if let Err(error) = serde_json::to_writer(&mut self.waiting, record) {
            self.waiting.truncate(start);
            return Err(self.fail("write", error.into()));
        }
        self.waiting.push(b'\n');
        let is_step = matches!(record, Record::Step(_));
        if is_step && self.waiting.len() < MOST_WAITING && self.last_write.elapsed() < LONGEST_WAIT {
            return Ok(());
        }
        self.flush()
    }

    /// Hands every line to the system. After an error no half line stays in the file, and the lines are kept for
    /// another try.
    pub fn flush(&mut self) -> Result<(), RunError> {
        self.last_write = Instant::now();
        if self.waiting.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write_all(&self.waiting) {
            // A failure here as well is told by the same error: the disk is full or gone.
            let _ = self.file.set_len(self.written);
            let _ = self.file.seek(SeekFrom::Start(self.written));
            return Err(self.fail("write", error));
        }
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Forces every line to disk, as a checkpoint needs that holds the [`MetricsWriter::position`].
    pub fn sync(&mut self) -> Result<(), RunError> {
        self.flush()?;
        self.file.sync_data().map_err(|error| self.fail("write", error))
    }

    /// Length of the file with all lines added so far.
    pub fn position(&self) -> u64 {
        self.written + self.waiting.len() as u64
    }

    /// Takes back every line after `position`, which is refused if it is not the end of a line of this file.
    pub fn truncate_to(&mut self, position: u64) -> Result<(), RunError> {
        self.flush()?;
        let reason = if position > self.written {
            Some(format!(
                "it has {} bytes but the checkpoint was taken at {position}; lines are missing",
                self.written
            ))
        } else if position > 0 && !self.is_line_end(position)? {
            Some(format!(
                "no line ends at byte {position} where the checkpoint was taken; it was changed since"
            ))
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(RunError::Content { what: "metrics", path: self.path.clone(), line: None, reason });
        }
        self.file
            .set_len(position)
            .and_then(|()| self.file.seek(SeekFrom::Start(position)))
            .map_err(|error| self.fail("write", error))?;
        self.written = position;
        Ok(())
    }

    fn is_line_end(&self, position: u64) -> Result<bool, RunError> {
        let mut last = [0];
        File::open(&self.path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(position - 1))?;
                file.read_exact(&mut last)
            })
            .map_err(|error| self.fail("read", error))?;
        Ok(last == [b'\n'])
    }

    fn fail(&self, operation: &'static str, error: io::Error) -> RunError {
        RunError::io(operation, WHAT, &self.path, error)
    }
}

impl Drop for MetricsWriter {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::error!("{error}");
        }
    }
}

/// What [`read_metrics`] finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// All whole lines, in order.
    pub records: Vec<Record>,
    /// What follows the last whole line: a writer was killed in the middle of a line. None in a file in order.
    pub torn: Option<String>,
}

/// Reads `metrics.jsonl`. A torn last line is reported; any other line that is not metrics is an error.
pub fn read_metrics(path: &Path) -> Result<Metrics, RunError> {
    let file = File::open(path).map_err(|error| RunError::io("open", WHAT, path, error))?;
    let mut reader = io::BufReader::new(file);
    let mut metrics = Metrics::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let content = |reason| RunError::Content {
            what: "metrics",
            path: path.to_path_buf(),
            line: Some(number),
            reason,
        };
        io::BufRead::read_until(&mut (&mut reader).take(LONGEST_LINE), b'\n', &mut line)
            .map_err(|error| RunError::io("read", WHAT, path, error))?;
        if line.is_empty() {
            break;
        }
        if line.last() == Some(&b'\n') {
            let record = serde_json::from_slice(&line).map_err(|error| content(error.to_string()))?;
            metrics.records.push(record);
        } else if line.len() as u64 == LONGEST_LINE {
            return Err(content(format!("the line is longer than {LONGEST_LINE} bytes")));
        } else {
            metrics.torn = Some(String::from_utf8_lossy(&line).into_owned());
        }
    }
    Ok(metrics)
}

/// JSON has no NaN; a null stands for every number that is not finite.
fn nan_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests;
