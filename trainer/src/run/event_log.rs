//! TensorBoard's event file beside `metrics.jsonl` (`train.tensorboard`), with the same figures.

use super::{Claim, MetricsRecord, RunFolderError};
use nix::unistd::gethostname;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use trackers::{EventWriter, Scalars, event_file_name};

const WHAT: &str = "the events for TensorBoard";
/// Longest time for which events are buffered.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Size of the buffer, larger than the events of that time.
const BUFFER: usize = 1 << 20;

/// Writes an event for each record of metrics. Each start of a run has its own file.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    claim: Arc<Claim>,
    writer: EventWriter<BufWriter<File>>,
    last_write: Instant,
}

impl EventLog {
    /// Begins a file in the run folder. A run that resumes after a step replaces the events of earlier files after it.
    pub fn create(claim: Arc<Claim>, resumed_after: Option<u64>) -> Result<Self, RunFolderError> {
        claim.check()?;
        let host =
            gethostname().map_or_else(|_| "host".to_owned(), |name| name.to_string_lossy().into_owned());
        let path = claim.path().join(event_file_name(now() as u64, &host, std::process::id()));
        let failed = |error| RunFolderError::io("create", WHAT, &path, error);
        let file = BufWriter::with_capacity(BUFFER, File::create_new(&path).map_err(failed)?);
        let writer = EventWriter::new(file, now()).map_err(failed)?;
        let mut log = Self { path: path.clone(), claim, writer, last_write: Instant::now() };
        if let Some(step) = resumed_after {
            log.restart_after(step)?;
        }
        Ok(log)
    }

    /// Declares the events after a step as replaced: the run goes on from there.
    pub fn restart_after(&mut self, step: u64) -> Result<(), RunFolderError> {
        self.writer.restart(now(), step + 1).map_err(|error| self.fail(error))?;
        self.flush()
    }

    /// Adds the figures of a record.
    pub fn append(&mut self, record: &MetricsRecord) -> Result<(), RunFolderError> {
        let line = serde_json::to_value(record).map_err(|error| self.fail(error.into()))?;
        if let Some(Scalars { step, values }) = Scalars::of(&line) {
            self.writer.scalars(now(), step, &values).map_err(|error| self.fail(error))?;
        }
        let is_step = matches!(record, MetricsRecord::Step(_));
        if is_step && self.last_write.elapsed() < LONGEST_WAIT { Ok(()) } else { self.flush() }
    }

    /// Writes what is buffered.
    pub fn flush(&mut self) -> Result<(), RunFolderError> {
        self.last_write = Instant::now();
        self.claim.check()?;
        self.writer.flush().map_err(|error| self.fail(error))
    }

    fn fail(&self, error: io::Error) -> RunFolderError {
        RunFolderError::io("write", WHAT, Path::new(&self.path), error)
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
