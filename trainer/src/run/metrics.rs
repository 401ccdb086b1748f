//! `metrics.jsonl`: one JSON line per step, evaluation and epoch, appended by rank 0.
//!
//! Lines reach the file whole. A run that is killed can lose the lines of its last second and can leave a torn last
//! line; a resumed run cuts the file back to the position that its checkpoint holds, so that no line is lost
//! or doubled (law 7).
//!
//! The run reports what others do to the file and keeps writing: a file that was removed is brought back, and one that was
//! changed or replaced is appended to. No run needs its metrics to be resumed.

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
/// Lines of steps wait this long at most before they are written, so that `tail -f` shows a living run.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Lines that wait take this much memory at most.
const MOST_WAITING: usize = 64 << 10;
/// No line of this program is longer; a longer one is not metrics.
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
    /// Which images, as `eval.split` has it.
    pub split: String,
    /// Which crops of them, as `eval.crops` has it.
    #[serde(default = "centre")]
    pub crops: String,
    /// Accuracy and its companions, as in `result.json`.
    #[serde(flatten)]
    pub summary: Summary,
    /// Seconds it took.
    pub seconds: f64,
}

/// What older lines do not say.
fn centre() -> String {
    Views::default().crops
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

/// Where in the metrics a checkpoint was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsPosition {
    /// Length of the file.
    pub position: u64,
    /// Steps done.
    pub step: u64,
}

/// Appends to `metrics.jsonl`.
///
/// Step lines are written at the latest with the first line after a second, all others at once, and everything by
/// [`MetricsWriter::flush`] and at the end of the writer's life.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    /// Open for appending, and for reading what it holds if somebody removes it.
    file: File,
    /// Bytes in the file, all of whole lines.
    written: u64,
    /// Whole lines that are not in the file yet. Its memory is used again.
    waiting: Vec<u8>,
    last_write: Instant,
    /// The claim to the run folder, looked at before every write.
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

    /// Continues a file after cutting it back to `mark`. That the file is gone, or is not the one in which the mark was
    /// set, is reported and stops nothing.
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

    /// The same, written only as long as the run has its folder.
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

    /// Hands every line to the system. After an error no half line stays in the file, and the lines are kept for
    /// another try.
    pub fn flush(&mut self) -> Result<(), RunFolderError> {
        self.last_write = Instant::now();
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.look_after()?;
        if let Err(error) = self.file.write_all(&self.waiting) {
            // A failure here as well is told by the same error: the disk is full or gone.
            let _ = self.file.set_len(self.written);
            return Err(self.fail("write", error));
        }
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Forces every line to disk, as a checkpoint needs that holds the [`MetricsWriter::position`].
    pub fn sync(&mut self) -> Result<(), RunFolderError> {
        self.look_after()?;
        self.flush()?;
        self.file.sync_data().map_err(|error| self.fail("write", error))
    }

    /// Length of the file with all lines added so far.
    pub fn position(&self) -> u64 {
        self.written + self.waiting.len() as u64
    }

    /// Takes back every line after `mark`. Where that is not the end of a line of this file, others have changed it: the
    /// lines up to the mark's step stay.
    pub fn truncate_to(&mut self, mark: MetricsPosition) -> Result<(), RunFolderError> {
        self.flush()?;
        let mut end = mark.position;
        if let Some(reason) = self.misfit(end)? {
            let (path, step) = (self.path.display(), mark.step);
            tracing::warn!("the metrics `{path}`: {reason}; its lines up to step {step} stay");
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
        Ok(Some(reason + "; it was changed since"))
    }

    fn is_line_end(&self, position: u64) -> io::Result<bool> {
        let mut last = *b"\n";
        if position > 0 {
            self.file.read_exact_at(&mut last, position - 1)?;
        }
        Ok(last == *b"\n")
    }

    /// Where the first line of a later step begins, or a torn one.
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

    /// Sees to it that what is written next stands behind the lines before it, in the file that people see.
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

    /// Writes a removed file anew, with the lines that this process can still read.
    fn bring_back(&mut self) -> io::Result<()> {
        let mut lines = vec![0; usize::try_from(self.written).map_err(io::Error::other)?];
        let kept = self.file.read_exact_at(&mut lines, 0).is_ok();
        if !kept {
            lines.clear();
        }
        write_atomically(&self.path, &lines)?;
        self.take_over()?;
        let what = if kept { "with all its lines" } else { "without its earlier lines" };
        tracing::warn!("the metrics `{}` were removed; the file is written anew {what}", self.path.display());
        Ok(())
    }

    /// Appends to the file that is there now, from the next line on.
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

/// What [`read_metrics`] finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// All whole lines, in order.
    pub records: Vec<MetricsRecord>,
    /// What follows the last whole line: a writer was killed in the middle of a line. None in a file in order.
    pub torn: Option<String>,
}

/// Reads `metrics.jsonl`. A torn last line is reported; any other line that is not metrics is an error.
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
