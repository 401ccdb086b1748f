//! Checkpoints during a run: when they are due, and their content.

use crate::config::Config;
use crate::engine::failure::Failure;
use crate::engine::rank::Rank;
use crate::engine::training::gather_shards::whole_tensors;
use crate::engine::training::last_step::LastStep;
use crate::engine::training::progress::{Progress, RunIdentity, RunState};
use crate::engine::training::run_log::{RunLog, secure};
use crate::model::trainables::Trainables;
use crate::run::checkpoint::{
    CheckpointWriter, Dtype, Retention, Snapshot, Store, TensorBytes, WriterEvent, WriterOptions,
};
use crate::run::{Claim, RunFolder};
use crate::weights::copy_bytes;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::{Kind, Tensor};

/// Prefix of the name of a trained tensor's momentum.
pub const MOMENTUM: &str = "momentum.";

/// Why a checkpoint is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SaveReason {
    /// The interval has passed. A later checkpoint may replace it while it waits.
    Regular,
    /// The test set was evaluated, with this value of `checkpoint.best`.
    Evaluated(f64),
    /// The run stops: without this checkpoint, the steps since the last one are lost.
    Leaving,
}

impl SaveReason {
    const fn metric(self) -> Option<f64> {
        if let Self::Evaluated(metric) = self { Some(metric) } else { None }
    }
}

/// Makes checkpoints. Every rank has one; that of rank 0 has the writer thread.
pub struct Saver<'a> {
    rank: &'a Rank,
    identity: RunIdentity,
    writer: Option<CheckpointWriter<RunState>>,
    /// Rank 0's claim to the run folder.
    claim: Option<Arc<Claim>>,
    every_steps: u64,
    every: Duration,
    last: Instant,
    inside: Duration,
    gave_up: Option<String>,
    /// Consecutive checkpoints that were not started, because the metrics could not be forced to disk.
    unsecured: u64,
    max_failures: u64,
    /// The state that another thread may save during a step, on rank 0.
    last_step: Option<LastStep>,
}

impl<'a> Saver<'a> {
    /// For the run in `folder`, which only rank 0 has.
    pub fn start(
        config: &Config,
        rank: &'a Rank,
        identity: RunIdentity,
        folder: Option<&RunFolder>,
    ) -> Result<Self, Failure> {
        let checkpoint = &config.checkpoint;
        let writer = folder.map(|folder| writer(config, folder)).transpose()?;
        Ok(Self {
            rank,
            identity,
            writer,
            claim: folder.map(|folder| Arc::clone(folder.claim())),
            every_steps: checkpoint.every_steps,
            every: Duration::from_secs_f64(checkpoint.every_seconds),
            last: Instant::now(),
            inside: Duration::ZERO,
            gave_up: None,
            unsecured: 0,
            max_failures: checkpoint.max_failures,
            last_step: None,
        })
    }

    /// Allows another thread to save the state after the last finished step, in case a step does not end.
    pub fn keep_last_step(
        &mut self,
        trainables: &Trainables,
        momentum: &Tensor,
        progress: &Progress,
        recorder: &RunLog,
    ) {
        let Some(writer) = &self.writer else { return };
        let last = LastStep::new(progress);
        self.last_step = Some(last.clone());
        let tensors = OwnTensors::new(trainables, momentum);
        let (writer, metrics) = (writer.side_entrance(), recorder.shared_metrics());
        let (identity, world_size) = (self.identity.clone(), self.rank.world_size());
        self.rank.stopping.set_rescue(Some(Box::new(move || {
            let (progress, metric) = last.take()?;
            let tensors = tensors?.bytes().map_err(|failure| failure.message)?;
            let position =
                metrics.map_or(Ok(0), |metrics| secure(&metrics)).map_err(|error| error.to_string())?;
            let (epoch, step) = (progress.epoch, progress.steps);
            let state = RunState { progress, metrics_position: position, identity, world_size };
            let written = writer.write(Snapshot { step, tensors, state }, metric);
            written.map(|()| (epoch, step)).map_err(|error| error.to_string())
        })));
    }

    /// Marks that the state begins to change: tensors, metrics or progress.
    pub fn begin_change(&self) {
        if let Some(last) = &self.last_step {
            last.begin_change();
        }
    }

    /// Marks tensors, metrics and progress as consistent again.
    pub fn end_change(&self, progress: &Progress) {
        if let Some(last) = &self.last_step {
            last.end_change(progress);
        }
    }

    /// Whether a checkpoint follows step number `step`. Rank 0 decides; its decision is reduced with the step.
    pub fn is_due_after(&self, step: u64) -> bool {
        let by_steps = self.every_steps > 0 && step.is_multiple_of(self.every_steps);
        let by_time = !self.every.is_zero() && self.last.elapsed() >= self.every;
        self.writer.is_some() && (by_steps || by_time)
    }

    /// Whether checkpoints are made during training.
    pub fn is_regular(&self) -> bool {
        self.every_steps > 0 || !self.every.is_zero()
    }

    /// Takes a snapshot and submits it to the writer. Collective.
    pub fn save(
        &mut self,
        trainables: &Trainables,
        momentum: &Tensor,
        progress: &Progress,
        recorder: &mut RunLog,
        occasion: SaveReason,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        let divided = trainables.layout().any(|(.., rows)| rows.is_some());
        if self.writer.is_none() && !divided {
            return Ok(());
        }
        let group = self.rank.group.as_ref();
        let values = whole_tensors(trainables, &trainables.flat(), group)?;
        let momenta = whole_tensors(trainables, momentum, group)?;
        if let Some(writer) = &self.writer {
            let used = writer.recycle().unwrap_or_default();
            let momenta = momenta.iter().map(|(name, tensor)| (format!("{MOMENTUM}{name}"), tensor));
            let values = values.iter().map(|(name, tensor)| (name.clone(), tensor));
            let tensors = host_bytes(values.chain(momenta), used)?;
            match self.state(progress, recorder) {
                Err(error) => self.count_unsecured(progress.steps, occasion, &error),
                Ok(state) => {
                    self.unsecured = 0;
                    let snapshot = Snapshot { step: progress.steps, tensors, state };
                    if let Some(last) = &self.last_step {
                        last.note_snapshot(progress.steps, occasion.metric());
                    }
                    match occasion {
                        SaveReason::Regular => writer.submit(snapshot, None),
                        SaveReason::Evaluated(metric) => writer.submit_must_keep(snapshot, Some(metric)),
                        SaveReason::Leaving => writer.submit_must_keep(snapshot, None),
                    }
                }
            }
        }
        self.last = Instant::now();
        self.inside += start.elapsed();
        Ok(())
    }

    /// The metrics that a checkpoint depends on could not be forced to disk.
    fn count_unsecured(&mut self, step: u64, occasion: SaveReason, error: &Failure) {
        tracing::warn!("the checkpoint after step {step} was not written: {error}");
        self.unsecured += 1;
        if self.unsecured >= self.max_failures {
            self.gave_up = Some(too_many(self.unsecured, error));
        } else if occasion == SaveReason::Leaving {
            self.gave_up =
                Some(format!("the last checkpoint, after step {step}, could not be written: {error}"));
        }
    }

    /// A reason to end the run: it has lost its folder, or too many checkpoints could not be written.
    pub fn problem(&mut self) -> Option<String> {
        if let Some(lost) = self.claim.as_ref().and_then(|claim| claim.lost()) {
            return Some(lost.to_string());
        }
        for event in self.writer.iter().flat_map(CheckpointWriter::events) {
            match event {
                WriterEvent::Written(written) => {
                    tracing::info!(step = written.step, bytes = written.bytes, "checkpoint written");
                }
                WriterEvent::Failed { step, error, in_a_row, gave_up } => {
                    tracing::warn!("the checkpoint after step {step} was not written: {error}");
                    if gave_up {
                        self.gave_up.get_or_insert(too_many(u64::from(in_a_row), &error));
                    }
                }
                WriterEvent::Retried { step, error, pause } => {
                    tracing::warn!(
                        "the checkpoint after step {step} will be tried again in {pause:?}: {error}"
                    );
                }
                WriterEvent::Replaced { step, by } => {
                    tracing::debug!(
                        "the checkpoint after step {step} was replaced by the one after step {by}"
                    );
                }
            }
        }
        self.gave_up.take()
    }

    /// Waits until everything submitted is written; a failure of the last one is an error.
    pub fn finish(&mut self) -> Result<(), Failure> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        self.rank.stopping.set_rescue(None);
        let last = writer.finish().map_err(Failure::run);
        self.close()?;
        last
    }

    /// The same if the run does not depend on the last one: only too many failures are an error.
    pub fn close(&mut self) -> Result<(), Failure> {
        if let Some(writer) = &mut self.writer {
            self.rank.stopping.set_rescue(None);
            // The failure is reported as an event.
            drop(writer.finish());
        }
        let problem = self.problem();
        self.writer = None;
        problem.map_or(Ok(()), |problem| Err(Failure::run(problem)))
    }

    /// Seconds that the training loop spent on checkpoints.
    pub fn seconds(&self) -> f64 {
        self.inside.as_secs_f64()
    }

    fn state(&self, progress: &Progress, recorder: &mut RunLog) -> Result<RunState, Failure> {
        Ok(RunState {
            progress: progress.clone(),
            metrics_position: recorder.secure_metrics()?,
            identity: self.identity.clone(),
            world_size: self.rank.world_size(),
        })
    }
}

fn too_many(in_a_row: u64, error: &dyn std::fmt::Display) -> String {
    format!(
        "{in_a_row} checkpoints in a row could not be written, as many as checkpoint.max_failures allows; the last: {error}"
    )
}

fn writer(config: &Config, folder: &RunFolder) -> Result<CheckpointWriter<RunState>, Failure> {
    let checkpoint = &config.checkpoint;
    let keep = NonZeroUsize::new(checkpoint.keep as usize).unwrap_or(NonZeroUsize::MIN);
    let retention = Retention { keep, best: checkpoint.best != crate::config::BestMetric::None };
    let store = Store::open(folder, retention).map_err(Failure::of_checkpoint)?;
    let options = WriterOptions { max_failures: checkpoint.max_failures as u32, ..WriterOptions::default() };
    CheckpointWriter::start(store, options).map_err(Failure::run)
}

/// The state that a rank can save without the others: the buffers of trained tensors and momentum, and the range of
/// each tensor.
struct OwnTensors {
    values: Tensor,
    momenta: Tensor,
    layout: Vec<(String, Range<i64>, Vec<i64>)>,
}

impl OwnTensors {
    /// Shares the memory and copies nothing. An error if tensors are sharded.
    fn new(trainables: &Trainables, momentum: &Tensor) -> Result<Self, String> {
        let mut layout = Vec::new();
        for (name, range, shape, rows) in trainables.layout() {
            if rows.is_some() {
                return Err("the classifier is sharded over the ranks, and no rank has all of it".to_owned());
            }
            layout.push((name.to_owned(), range, shape.to_vec()));
        }
        Ok(Self { values: trainables.flat(), momenta: momentum.shallow_clone(), layout })
    }

    fn bytes(&self) -> Result<Vec<TensorBytes>, Failure> {
        let part = |flat: &Tensor, range: &Range<i64>, shape: &[i64]| {
            flat.narrow(0, range.start, range.end - range.start).view(shape)
        };
        let parts = |prefix: &str, flat: &Tensor| -> Vec<(String, Tensor)> {
            let layout = self.layout.iter();
            layout.map(|(name, range, shape)| (format!("{prefix}{name}"), part(flat, range, shape))).collect()
        };
        let (values, momenta) = (parts("", &self.values), parts(MOMENTUM, &self.momenta));
        host_bytes(values.iter().chain(&momenta).map(|(name, tensor)| (name.clone(), tensor)), Vec::new())
    }
}

/// Copies tensors to host memory, into the recycled buffers of a written checkpoint if there are any.
fn host_bytes<'a>(
    tensors: impl Iterator<Item = (String, &'a Tensor)>,
    used: Vec<TensorBytes>,
) -> Result<Vec<TensorBytes>, Failure> {
    let mut used = used.into_iter();
    tensors
        .map(|(name, tensor)| {
            let dtype = match tensor.kind() {
                Kind::Double => Dtype::F64,
                Kind::Float => Dtype::F32,
                other => return Err(Failure::run(format!("tensors of kind {other:?} are not saved"))),
            };
            let mut bytes = used.next().map(|tensor| tensor.bytes).unwrap_or_default();
            copy_bytes(tensor, &mut bytes);
            let shape = tensor.size().iter().map(|&n| n as usize).collect();
            Ok(TensorBytes { name, dtype, shape, bytes })
        })
        .collect()
}
