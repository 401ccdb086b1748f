//! `metrics.jsonl`: one JSON line per step, evaluation and epoch, appended by rank 0.
//!
//! Lines are written completely. A killed run can lose the lines of its last second and can leave a truncated last
//! line; a resumed run truncates the file to the position in its checkpoint, so that no line is lost or duplicated (law
//! 7).
//!
//! The run reports changes by other programs and keeps writing: it restores a removed file, and appends to a changed or
//! replaced one. Resuming does not need the metrics.

use super::{Claim, FolderId, RunFolderError, Summary, Views};
use protocol::write_atomically;
use serde::{Deserialize, Deserializer, Serialize};
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const WHAT: &str = "the metrics";
/// Longest time for which lines of steps are buffered, so that `tail -f` shows a live run.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Largest size in bytes of the buffered lines.
const MOST_WAITING: usize = 64 << 10;
/// Longest line that this program writes; a longer one is not metrics.
const LONGEST_LINE: u64 = 1 << 20;

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum MetricsRecord {
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
    /// Its epoch, counted from 0.
    pub epoch: u64,
    /// Its number, counted from 1 over the run.
    pub step: u64,
    /// Mean loss over the global batch, in full precision; null (here NaN) if it is not finite or no image is left.
    #[serde(deserialize_with = "nan_if_null")]
    pub loss: f64,
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// Images of the global batch without those left out; a step with none changes nothing.
    pub samples: u64,
    /// Images per second over all ranks.
    pub images_per_second: f64,
    /// Seconds that rank 0 waited for its images.
    pub data_wait: f64,
    /// The same seconds by reason: `wait_read`, `wait_decode` and `wait_queue`.
    #[serde(flatten)]
    pub wait: WaitSeconds,
    /// Whether loss and gradients were finite; otherwise the step changed nothing.
    pub finite: bool,
    /// Bytes that rank 0 sent for tensors in this step.
    #[serde(default)]
    pub bytes: u64,
}

/// Seconds of `data_wait`, by what the workers of the loader did meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WaitSeconds {
    /// They waited for the bytes of images.
    #[serde(rename = "wait_read", default)]
    pub read: f64,
    /// They decoded and resized.
    #[serde(rename = "wait_decode", default)]
    pub decode: f64,
    /// They had no work.
    #[serde(rename = "wait_queue", default)]
    pub queue: f64,
}

/// An evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// Epochs done.
    pub epoch: u64,
    /// Steps done.
    pub step: u64,
    /// The images, as in `eval.split`.
    pub split: String,
    /// The crops, as in `eval.crops`.
    #[serde(default = "centre")]
    pub crops: String,
    /// Accuracy figures, as in `result.json`.
    #[serde(flatten)]
    pub summary: Summary,
    /// Seconds it took.
    pub seconds: f64,
}

/// Default for lines of older versions.
fn centre() -> String {
    Views::default().crops
}

/// The end of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Steps done over the whole run.
    pub step: u64,
    /// Mean of the losses of its steps; null (here NaN) if it is not finite or no step has one.
    #[serde(deserialize_with = "nan_if_null")]
    pub loss: f64,
    /// Images of the epoch.
    pub samples: u64,
    /// Seconds it took.
    pub seconds: f64,
}

/// Position in the metrics at which a checkpoint was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsPosition {
    /// Length of the file.
    pub position: u64,
    /// Steps done.
    pub step: u64,
}

/// Appends to `metrics.jsonl`.
///
/// Step lines are buffered for up to a second, other lines are written at once. [`MetricsWriter::flush`] and dropping
/// the writer write everything.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    /// Open for appending, and for reading its content if another program removes it.
    file: File,
    /// Bytes in the file, which are complete lines.
    written: u64,
    /// Complete lines that are not in the file yet. The buffer is reused.
    waiting: Vec<u8>,
    last_write: Instant,
    /// The claim to the run folder, checked before every write.
    claim: Option<Arc<Claim>>,
}

impl MetricsWriter {
    /// Starts a new file; one that exists is an error.
    pub fn create(path: &Path) -> Result<Self, RunFolderError> {
        let file = File::options()
            .read(true)
            .append(true)
            .create_new(true)
            .open(path)
            .map_err(|error| RunFolderError::io("create", WHAT, path, error))?;
        Ok(Self::new(path, file, 0))
    }

    /// Continues a file after truncating it to `mark`. A missing file, or one in which the mark was not set, is
    /// reported and is not an error.
    pub fn reopen(path: &Path, mark: MetricsPosition) -> Result<Self, RunFolderError> {
        let existed = path.exists();
        let file = append_to(path).map_err(|error| RunFolderError::io("open", WHAT, path, error))?;
        let length = file.metadata().map_err(|error| RunFolderError::io("read", WHAT, path, error))?.len();
        let mut writer = Self::new(path, file, length);
        if existed {
            writer.truncate_to(mark)?;
        } else if mark.position > 0 {
            let (path, step) = (path.display(), mark.step);
            tracing::warn!(
                "the metrics `{path}` are gone: the run resumes after step {step} with a new file"
            );
        }
        Ok(writer)
    }

    /// The same writer, which writes only while the claim is valid.
    #[must_use]
    pub fn under(mut self, claim: Arc<Claim>) -> Self {
        self.claim = Some(claim);
        self
    }

    fn new(path: &Path, file: File, written: u64) -> Self {
        let (path, waiting) = (path.to_path_buf(), Vec::new());
        Self { path, file, written, waiting, last_write: Instant::now(), claim: None }
    }

    /// Adds a line.
    pub fn append(&mut self, record: &MetricsRecord) -> Result<(), RunFolderError> {
        let start = self.waiting.len();
        if let Err(error) = serde_json::to_writer(&mut self.waiting, record) {
            self.waiting.truncate(start);
            return Err(self.fail("write", error.into()));
        }
        self.waiting.push(b'\n');
        let is_step = matches!(record, MetricsRecord::Step(_));
        if is_step && self.waiting.len() < MOST_WAITING && self.last_write.elapsed() < LONGEST_WAIT {
            return Ok(());
        }
        self.flush()
    }

    /// Writes every buffered line to the file. After an error, no partial line stays in the file, and the lines stay
    /// buffered for another try.
    pub fn flush(&mut self) -> Result<(), RunFolderError> {
        self.last_write = Instant::now();
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.look_after()?;
        if let Err(error) = self.file.write_all(&self.waiting) {
            // A failure here has the same cause as the error, which is reported: the disk is full or gone.
            let _ = self.file.set_len(self.written);
            return Err(self.fail("write", error));
        }
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Forces every line to disk, as required for a checkpoint that contains the [`MetricsWriter::position`].
    pub fn sync(&mut self) -> Result<(), RunFolderError> {
        self.look_after()?;
        self.flush()?;
        self.file.sync_data().map_err(|error| self.fail("write", error))
    }

    /// Length of the file with all lines added so far.
    pub fn position(&self) -> u64 {
        self.written + self.waiting.len() as u64
    }

    /// Removes every line after `mark`. If no line ends at the mark, another program has changed the file: then the
    /// lines up to the step of the mark are kept.
    pub fn truncate_to(&mut self, mark: MetricsPosition) -> Result<(), RunFolderError> {
        self.flush()?;
        let mut end = mark.position;
        if let Some(reason) = self.misfit(end)? {
            let (path, step) = (self.path.display(), mark.step);
            tracing::warn!("the metrics `{path}`: {reason}; its lines up to step {step} are kept");
            end = self.end_of_step(step).map_err(|error| self.fail("read", error))?;
        }
        self.file.set_len(end).map_err(|error| self.fail("write", error))?;
        self.written = end;
        Ok(())
    }

    /// Why no checkpoint of this file was taken at `position`.
    fn misfit(&self, position: u64) -> Result<Option<String>, RunFolderError> {
        let written = self.written;
        if position > written {
            let reason = format!("it has {written} bytes but the checkpoint was taken at {position}");
            return Ok(Some(reason + "; lines are missing"));
        }
        if self.is_line_end(position).map_err(|error| self.fail("read", error))? {
            return Ok(None);
        }
        let reason = format!("no line ends at byte {position} where the checkpoint was taken");
        Ok(Some(reason + "; it was changed afterwards"))
    }

    fn is_line_end(&self, position: u64) -> io::Result<bool> {
        let mut last = *b"\n";
        if position > 0 {
            self.file.read_exact_at(&mut last, position - 1)?;
        }
        Ok(last == *b"\n")
    }

    /// Position of the first line of a later step, or of a truncated line.
    fn end_of_step(&self, step: u64) -> io::Result<u64> {
        #[derive(Deserialize)]
        struct MetricsLine {
            step: u64,
        }
        let mut reader = io::BufReader::new(File::open(&self.path)?);
        let (mut end, mut line) = (0, Vec::new());
        loop {
            line.clear();
            (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
            let is_later = serde_json::from_slice(&line).is_ok_and(|line: MetricsLine| line.step > step);
            if line.last() != Some(&b'\n') || is_later {
                return Ok(end);
            }
            end += line.len() as u64;
        }
    }

    /// Ensures that the next write appends to the earlier lines, in the file at the visible path.
    fn look_after(&mut self) -> Result<(), RunFolderError> {
        self.claim.as_ref().map_or(Ok(()), |claim| claim.check())?;
        let there = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.bring_back().map_err(|error| self.fail("bring back", error));
            }
            found => found.map_err(|error| self.fail("find", error))?,
        };
        let own = self.file.metadata().map_err(|error| self.fail("find", error))?;
        let is_another = FolderId::from(&there) != FolderId::from(&own);
        if !is_another && there.len() == self.written {
            return Ok(());
        }
        let change = if is_another { "replaced" } else { "changed" };
        tracing::warn!(
            "the metrics `{}` were {change} by another program; the run appends to them",
            self.path.display()
        );
        self.take_over().map_err(|error| self.fail("open", error))
    }

    /// Writes a removed file again, with the lines that this process can still read.
    fn bring_back(&mut self) -> io::Result<()> {
        let mut lines = vec![0; usize::try_from(self.written).map_err(io::Error::other)?];
        let kept = self.file.read_exact_at(&mut lines, 0).is_ok();
        if !kept {
            lines.clear();
        }
        write_atomically(&self.path, &lines)?;
        self.take_over()?;
        let what = if kept { "with all its lines" } else { "without its earlier lines" };
        tracing::warn!(
            "the metrics `{}` were removed; the file is written again {what}",
            self.path.display()
        );
        Ok(())
    }

    /// Appends to the file that exists now, from the next line on.
    fn take_over(&mut self) -> io::Result<()> {
        self.file = append_to(&self.path)?;
        self.written = self.file.metadata()?.len();
        if !self.is_line_end(self.written)? {
            self.file.write_all(b"\n")?;
            self.written += 1;
        }
        Ok(())
    }

    fn fail(&self, operation: &'static str, error: io::Error) -> RunFolderError {
        RunFolderError::io(operation, WHAT, &self.path, error)
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).open(path)
}

impl Drop for MetricsWriter {
    fn drop(&mut self) {
        if let Err(error) = self.flush()
            && !error.is_lost()
        {
            tracing::error!("{error}");
        }
    }
}

/// Result of [`read_metrics`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// All complete lines, in order.
    pub records: Vec<MetricsRecord>,
    /// The bytes after the last complete line, if a writer was killed in the middle of a line. None in an intact file.
    pub torn: Option<String>,
}

/// Reads `metrics.jsonl`. A truncated last line is returned separately; any other invalid line is an error.
pub fn read_metrics(path: &Path) -> Result<Metrics, RunFolderError> {
    let file = File::open(path).map_err(|error| RunFolderError::io("open", WHAT, path, error))?;
    let mut reader = io::BufReader::new(file);
    let mut metrics = Metrics::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let content = |reason| RunFolderError::Content {
            what: "metrics",
            path: path.to_path_buf(),
            line: Some(number),
            reason,
        };
        (&mut reader)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|error| RunFolderError::io("read", WHAT, path, error))?;
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
