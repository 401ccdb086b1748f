//! Metrics and status of a run, on rank 0. Does nothing on other ranks.

use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::training::heartbeat::Heartbeat;
use crate::run::{
    EvalRecord, EventLog, MetricsPosition, MetricsRecord, MetricsWriter, RunFolder, RunFolderError,
};
use protocol::{Outcome, Phase, Status, hint};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Interval between warnings that the metrics cannot be written.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// Metrics and status of one run.
pub struct RunLog {
    metrics: Option<Arc<Mutex<MetricsWriter>>>,
    /// None without `train.tensorboard`, and after a failure.
    events: Option<EventLog>,
    heartbeat: Option<Heartbeat>,
    warned: Option<Instant>,
}

impl RunLog {
    /// Starts the files of a run, or continues those of a run at `mark`; with `tensorboard`, also an event file.
    pub fn open(
        folder: Option<&RunFolder>,
        rank: &Rank,
        mark: Option<MetricsPosition>,
        tensorboard: bool,
    ) -> Result<Self, Failure> {
        let opened = agreed(&rank.control, || {
            let Some(folder) = folder else { return Ok(None) };
            let path = folder.metrics();
            let metrics = match mark {
                None => MetricsWriter::create(&path),
                Some(mark) => MetricsWriter::reopen(&path, mark),
            };
            folder.check().map_err(Failure::run)?;
            let mut status = Status::starting(rank.world_size());
            status.phase = Phase::Init;
            status.write(folder.path()).map_err(Failure::run)?;
            let heartbeat = Heartbeat::start(status, Arc::clone(folder.claim()), rank.activity.clone());
            let metrics = metrics.map_err(Failure::of_folder)?.under(Arc::clone(folder.claim()));
            let events = tensorboard.then(|| {
                EventLog::create(Arc::clone(folder.claim()), mark.map(|mark| mark.step)).map_err(Failure::run)
            });
            Ok(Some((metrics, heartbeat.map_err(Failure::run)?, events.transpose()?)))
        })?;
        let (metrics, heartbeat, events) = match opened {
            Some((metrics, heartbeat, events)) => (Some(metrics), Some(heartbeat), events),
            None => (None, None, None),
        };
        let metrics = metrics.map(|metrics| Arc::new(Mutex::new(metrics)));
        Ok(Self { metrics, events, heartbeat, warned: None })
    }

    /// Adds a line to the metrics.
    pub fn append(&mut self, record: &MetricsRecord) {
        let Some(mut metrics) = self.metrics() else { return };
        let written = metrics.append(record);
        drop(metrics);
        self.tolerate(written);
        let shown = self.events.as_mut().map_or(Ok(()), |events| events.append(record));
        self.give_up_events(shown);
    }

    /// Events repeat the metrics, so a failure ends them and not the run.
    fn give_up_events(&mut self, written: Result<(), RunFolderError>) {
        if let Err(error) = written {
            self.events = None;
            if !error.is_lost() {
                tracing::warn!("{}", hint::with_clause(error, "TensorBoard gets no more events of this run"));
            }
        }
    }

    /// Begins another part of the run.
    pub fn phase(&mut self, phase: Phase) {
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.set_phase(phase);
        }
    }

    /// Records a step; the status is updated at intervals.
    pub fn step(&mut self, epoch: u64, step: u64) {
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.set_step(epoch, step);
        }
    }

    /// Records an evaluation.
    pub fn evaluation(&mut self, evaluation: EvalRecord) {
        self.step(evaluation.epoch, evaluation.step);
        self.append(&MetricsRecord::Eval(evaluation));
    }

    /// Length of the metrics, which are on disk when this returns; 0 without metrics.
    pub fn secure_metrics(&mut self) -> Result<u64, Failure> {
        self.metrics.as_ref().map_or(Ok(0), |metrics| secure(metrics).map_err(Failure::run))
    }

    /// The metrics, for a thread that saves while a step is under way.
    pub fn shared_metrics(&self) -> Option<Arc<Mutex<MetricsWriter>>> {
        self.metrics.clone()
    }

    fn metrics(&self) -> Option<MutexGuard<'_, MetricsWriter>> {
        self.metrics.as_ref().map(|metrics| metrics.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes the lines after `mark`.
    pub fn cut_metrics(&mut self, mark: MetricsPosition) -> Result<(), Failure> {
        let Some(mut metrics) = self.metrics() else { return Ok(()) };
        metrics.truncate_to(mark).map_err(Failure::run)?;
        drop(metrics);
        let shown = self.events.as_mut().map_or(Ok(()), |events| events.restart_after(mark.step));
        self.give_up_events(shown);
        Ok(())
    }

    /// Writes the final status with the outcome of the run. A failure to write it must not hide the outcome.
    pub fn end(&mut self, outcome: Outcome, message: Option<&str>) {
        if let Some(mut metrics) = self.metrics()
            && let Err(error) = metrics.flush()
            && !error.is_lost()
        {
            tracing::error!("{error}");
        }
        let shown = self.events.as_mut().map_or(Ok(()), EventLog::flush);
        self.give_up_events(shown);
        if let Some(heartbeat) = &mut self.heartbeat
            && let Err(error) = heartbeat.end(outcome, message)
        {
            tracing::error!("{error}");
        }
    }

    /// A full disk may get free space again, so lines are buffered in memory. The checkpoints, which fail as well,
    /// limit how long this lasts. A lost folder ends the run, which reports it.
    fn tolerate(&mut self, written: Result<(), RunFolderError>) {
        if let Err(error) = written
            && !error.is_lost()
            && self.warned.is_none_or(|warned| warned.elapsed() >= WARNING_INTERVAL)
        {
            self.warned = Some(Instant::now());
            tracing::warn!("{}", hint::with_clause(error, "training continues and tries again"));
        }
    }
}

/// Forces metrics to disk and returns their length.
pub fn secure(metrics: &Mutex<MetricsWriter>) -> Result<u64, RunFolderError> {
    let mut metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner);
    metrics.sync()?;
    Ok(metrics.position())
}
