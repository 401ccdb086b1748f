//! Rank 0's running record: metrics and status. On other ranks it does nothing.

use super::failure::{Failure, agreed};
use super::rank::Rank;
use crate::run::{EvalRecord, MetricsWriter, Record, RunFolder};
use launcher::protocol::{Outcome, Phase, Status};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often the status of a training run is written.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// Metrics and status of one run.
pub struct Recorder {
    metrics: Option<MetricsWriter>,
    status: Option<(Status, PathBuf)>,
    written: Instant,
    warned: Option<Instant>,
}

/// How often it is said that the files cannot be written.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

impl Recorder {
    /// Starts the files of a run, or goes on with those of one that was at `metrics_position`.
    pub fn open(
        folder: Option<&RunFolder>,
        rank: &Rank,
        metrics_position: Option<u64>,
    ) -> Result<Self, Failure> {
        let opened = agreed(&rank.control, || {
            let Some(folder) = folder else { return Ok(None) };
            let path = folder.metrics();
            let metrics = match metrics_position {
                None => MetricsWriter::create(&path),
                Some(position) => MetricsWriter::reopen(&path, position),
            };
            let mut status = Status::starting(rank.world_size());
            status.phase = Phase::Init;
            status.write(folder.path()).map_err(Failure::input)?;
            Ok(Some((metrics.map_err(Failure::input)?, status, folder.path().to_owned())))
        })?;
        let written = Instant::now();
        Ok(match opened {
            None => Self { metrics: None, status: None, written, warned: None },
            Some((metrics, status, path)) => {
                Self { metrics: Some(metrics), status: Some((status, path)), written, warned: None }
            }
        })
    }

    /// Adds a line to the metrics.
    pub fn append(&mut self, record: &Record) {
        let Some(metrics) = &mut self.metrics else { return };
        let written = metrics.append(record);
        self.tolerate(written);
    }

    /// Another part of the run begins.
    pub fn phase(&mut self, phase: Phase) {
        if let Some((status, _)) = &mut self.status {
            status.phase = phase;
        }
        self.write_status();
    }

    /// A step is done; the status tells it from time to time.
    pub fn step(&mut self, epoch: u64, step: u64) {
        let Some((status, _)) = &mut self.status else { return };
        (status.epoch, status.step) = (epoch, step);
        if self.written.elapsed() >= STATUS_INTERVAL {
            self.write_status();
        }
    }

    /// An evaluation is done.
    pub fn evaluation(&mut self, evaluation: EvalRecord) {
        if let Some((status, _)) = &mut self.status {
            (status.epoch, status.step) = (evaluation.epoch, evaluation.step);
        }
        self.append(&Record::Eval(evaluation));
    }

    /// Length of the metrics, which are on disk when this returns; 0 without metrics.
    pub fn secure_metrics(&mut self) -> Result<u64, Failure> {
        let Some(metrics) = &mut self.metrics else { return Ok(0) };
        metrics.sync().map_err(Failure::run)?;
        Ok(metrics.position())
    }

    /// Takes back the lines after `position`.
    pub fn cut_metrics(&mut self, position: u64) -> Result<(), Failure> {
        let Some(metrics) = &mut self.metrics else { return Ok(()) };
        metrics.truncate_to(position).map_err(Failure::run)
    }

    /// The last word: how the run ended. That this cannot be written must not hide why.
    pub fn end(&mut self, outcome: Outcome, message: Option<String>) {
        if let Some(metrics) = &mut self.metrics
            && let Err(error) = metrics.flush()
        {
            tracing::error!("{error}");
        }
        let Some((status, path)) = &mut self.status else { return };
        status.end(outcome, message);
        if let Err(error) = status.write(path) {
            tracing::error!("{error}");
        }
    }

    fn write_status(&mut self) {
        self.written = Instant::now();
        let Some((status, path)) = &mut self.status else { return };
        let written = status.write(path);
        self.tolerate(written);
    }

    /// A full disk may have room again: lines wait in memory, and how long that may last is for the checkpoints to say,
    /// which fail as well.
    fn tolerate(&mut self, written: Result<(), impl std::fmt::Display>) {
        if let Err(error) = written
            && self.warned.is_none_or(|warned| warned.elapsed() >= WARNING_INTERVAL)
        {
            self.warned = Some(Instant::now());
            tracing::warn!("{error}; training goes on, and it is tried again");
        }
    }
}
