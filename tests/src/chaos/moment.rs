//! The moment of a fault, and the phase of the run at that moment.

use super::job::ChaosJob;
use crate::draw::Draw;
use protocol::{Phase, layout};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A moment during a start of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultMoment {
    /// This time after the start, while processes start and read data and backbone.
    StartUp(Duration),
    /// This time after the start has opened the run folder, before training.
    Init(Duration),
    /// This time after this many steps of the start.
    Training(u64, Duration),
    /// During a checkpoint, after this many others.
    Checkpoint(u64),
    /// This time after the begin of an evaluation, after an epoch or at the end.
    Evaluating(Duration),
    /// While the files of the result are written.
    Results,
}

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// From the start to the opening of the run folder.
    StartUp,
    /// From there to the first step.
    Init,
    /// During steps.
    Training,
    /// While writing a checkpoint.
    Checkpoint,
    /// During an evaluation.
    Evaluating,
    /// While writing the results.
    Results,
    /// Not started, or already ended.
    Gone,
}

impl At {
    /// All phases, in the order of a run.
    pub const ALL: [Self; 7] = [
        Self::StartUp,
        Self::Init,
        Self::Training,
        Self::Checkpoint,
        Self::Evaluating,
        Self::Results,
        Self::Gone,
    ];

    /// Name in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StartUp => "start-up",
            Self::Init => "init",
            Self::Training => "training",
            Self::Checkpoint => "checkpoint",
            Self::Evaluating => "evaluation",
            Self::Results => "results",
            Self::Gone => "gone",
        }
    }
}

impl FaultMoment {
    /// Draws any moment.
    pub fn draw(draw: &mut Draw) -> Self {
        match draw.weighted(&[(12, 0), (8, 1), (28, 2), (26, 3), (14, 4), (12, 5)]) {
            0 => Self::StartUp(draw.milliseconds(900)),
            1 => Self::Init(draw.milliseconds(3)),
            2 => Self::training(draw),
            3 => Self::Checkpoint(draw.below(3)),
            4 => Self::Evaluating(draw.milliseconds(40)),
            _ => Self::Results,
        }
    }

    /// Draws a moment during training.
    pub fn training(draw: &mut Draw) -> Self {
        Self::Training(draw.below(5), draw.milliseconds(80))
    }

    /// Rank in the order of a run. The faults of a case are sorted by it, because later ones would come too late
    /// otherwise. `None` for moments of every start.
    pub const fn order(self) -> Option<u8> {
        match self {
            Self::StartUp(_) | Self::Init(_) => None,
            Self::Training(..) | Self::Checkpoint(_) => Some(0),
            Self::Evaluating(_) => Some(1),
            Self::Results => Some(2),
        }
    }

    /// Waits for the moment. False if the run ended first, or did not reach it within `limit`.
    pub fn wait(self, job: &mut ChaosJob, limit: Duration) -> bool {
        match self {
            Self::StartUp(after) => until(job, limit, |job| job.started.elapsed() >= after),
            Self::Init(after) => {
                let reached = until(job, limit, |job| job.status().is_some());
                reached && until_later(job, after)
            }
            Self::Training(steps, after) => {
                let reached = until(job, limit, has_started_training);
                let first = job.steps().unwrap_or(0);
                reached
                    && until(job, limit, |job| has_done_steps(job, first + steps))
                    && until_later(job, after)
            }
            Self::Checkpoint(others) => {
                let reached = until(job, limit, has_started_training);
                let mut seen = std::collections::BTreeSet::new();
                reached
                    && until(job, limit, |job| {
                        seen.extend(unfinished_checkpoints(job.run()));
                        seen.len() as u64 > others
                    })
            }
            Self::Evaluating(after) => until(job, limit, is_evaluating) && until_later(job, after),
            Self::Results => until(job, limit, is_writing_results),
        }
    }
}

/// The current phase of the run.
pub fn now(job: &mut ChaosJob) -> At {
    if !job.runs() {
        return At::Gone;
    }
    let Some(status) = job.status() else { return At::StartUp };
    if is_writing_results(job) {
        return At::Results;
    }
    if unfinished_checkpoints(job.run()).next().is_some() {
        return At::Checkpoint;
    }
    match status.phase {
        Phase::Starting => At::StartUp,
        Phase::Init => At::Init,
        Phase::Evaluating => At::Evaluating,
        Phase::Training if is_evaluating(job) => At::Evaluating,
        Phase::Training => At::Training,
        Phase::Done | Phase::Preempted | Phase::Failed => At::Gone,
    }
}

fn until(job: &mut ChaosJob, limit: Duration, mut condition: impl FnMut(&ChaosJob) -> bool) -> bool {
    let start = std::time::Instant::now();
    loop {
        if condition(job) {
            return job.runs();
        }
        if !job.runs() || start.elapsed() > limit {
            return false;
        }
        job.processes();
        std::thread::sleep(Duration::from_micros(300));
    }
}

fn until_later(job: &mut ChaosJob, after: Duration) -> bool {
    let start = std::time::Instant::now();
    until(job, after, |_| start.elapsed() >= after)
}

fn has_started_training(job: &ChaosJob) -> bool {
    job.status().is_some_and(|status| !matches!(status.phase, Phase::Starting | Phase::Init))
}

fn has_done_steps(job: &ChaosJob, steps: u64) -> bool {
    job.steps().is_some_and(|done| done >= steps)
}

/// Whether the metrics have the line of an epoch but not yet that of its evaluation, or the last evaluation runs.
fn is_evaluating(job: &ChaosJob) -> bool {
    let Some(status) = job.status() else { return false };
    if status.phase == Phase::Evaluating {
        return true;
    }
    let text = fs::read_to_string(job.run().join(layout::METRICS)).unwrap_or_default();
    status.phase == Phase::Training
        && text.lines().last().is_some_and(|line| line.starts_with("{\"kind\":\"epoch\""))
}

fn is_writing_results(job: &ChaosJob) -> bool {
    let run = job.run();
    if run.join(layout::RESULT).exists() {
        return false;
    }
    let beside = format!(".{}", layout::FINAL_WEIGHTS);
    let entries = fs::read_dir(run).into_iter().flatten().flatten();
    job.wrote(&run.join(layout::FINAL_WEIGHTS))
        || entries
            .filter(|entry| job.wrote(&entry.path()))
            .any(|entry| entry.file_name().as_encoded_bytes().starts_with(beside.as_bytes()))
}

/// Names of unfinished checkpoints.
fn unfinished_checkpoints(run: &Path) -> impl Iterator<Item = std::ffi::OsString> + use<> {
    let entries = fs::read_dir(run.join(layout::CHECKPOINTS)).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).filter(|name| {
        let name = name.as_encoded_bytes();
        name.first() == Some(&b'.') && name.windows(5).any(|part| part == b".tmp-")
    })
}
