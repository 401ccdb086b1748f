//! When a fault strikes, and what the run was doing then.

use super::job::ChaosJob;
use crate::draw::Draw;
use protocol::{Phase, layout};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A moment to wait for in a start of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultMoment {
    /// So long after the start: processes begin, and data and backbone are read.
    StartUp(Duration),
    /// The run folder is this start's, for so long, and training has not begun.
    Init(Duration),
    /// So many steps were made by this start, and so long ago.
    Training(u64, Duration),
    /// A checkpoint is being written, after so many others.
    Checkpoint(u64),
    /// The test set is being evaluated after an epoch or at the end, for so long.
    Evaluating(Duration),
    /// The files of the result are being written.
    Results,
}

/// What a run was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// It started, up to the opening of the run folder.
    StartUp,
    /// From there to the first step.
    Init,
    /// It made steps.
    Training,
    /// It wrote a checkpoint.
    Checkpoint,
    /// It evaluated.
    Evaluating,
    /// It wrote its results.
    Results,
    /// It was not there, or not any more.
    Gone,
}

impl At {
    /// All, in the order of a run.
    pub const ALL: [Self; 7] = [
        Self::StartUp,
        Self::Init,
        Self::Training,
        Self::Checkpoint,
        Self::Evaluating,
        Self::Results,
        Self::Gone,
    ];

    /// Its name in a report.
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
    /// Any moment.
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

    /// A moment between two steps or in one.
    pub fn training(draw: &mut Draw) -> Self {
        Self::Training(draw.below(5), draw.milliseconds(80))
    }

    /// How far in a run this is: a case has its faults in this order, or the later ones would come too late. The start
    /// of a run is everywhere.
    pub const fn order(self) -> Option<u8> {
        match self {
            Self::StartUp(_) | Self::Init(_) => None,
            Self::Training(..) | Self::Checkpoint(_) => Some(0),
            Self::Evaluating(_) => Some(1),
            Self::Results => Some(2),
        }
    }

    /// Waits for it. False if the run ended first, or did not come there within `limit`.
    pub fn wait(self, job: &mut ChaosJob, limit: Duration) -> bool {
        match self {
            Self::StartUp(after) => until(job, limit, |job| job.started.elapsed() >= after),
            Self::Init(after) => {
                let there = until(job, limit, |job| job.status().is_some());
                there && until_later(job, after)
            }
            Self::Training(steps, after) => {
                let there = until(job, limit, trains);
                let first = job.steps().unwrap_or(0);
                there && until(job, limit, |job| made(job, first + steps)) && until_later(job, after)
            }
            Self::Checkpoint(others) => {
                let there = until(job, limit, trains);
                let mut seen = std::collections::BTreeSet::new();
                there
                    && until(job, limit, |job| {
                        seen.extend(being_written(job.run()));
                        seen.len() as u64 > others
                    })
            }
            Self::Evaluating(after) => until(job, limit, evaluates) && until_later(job, after),
            Self::Results => until(job, limit, writes_results),
        }
    }
}

/// What the run does now.
pub fn now(job: &mut ChaosJob) -> At {
    if !job.runs() {
        return At::Gone;
    }
    let Some(status) = job.status() else { return At::StartUp };
    if writes_results(job) {
        return At::Results;
    }
    if being_written(job.run()).next().is_some() {
        return At::Checkpoint;
    }
    match status.phase {
        Phase::Starting => At::StartUp,
        Phase::Init => At::Init,
        Phase::Evaluating => At::Evaluating,
        Phase::Training if evaluates(job) => At::Evaluating,
        Phase::Training => At::Training,
        Phase::Done | Phase::Preempted | Phase::Failed => At::Gone,
    }
}

fn until(job: &mut ChaosJob, limit: Duration, mut so: impl FnMut(&ChaosJob) -> bool) -> bool {
    let start = std::time::Instant::now();
    loop {
        if so(job) {
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

fn trains(job: &ChaosJob) -> bool {
    job.status().is_some_and(|status| !matches!(status.phase, Phase::Starting | Phase::Init))
}

fn made(job: &ChaosJob, steps: u64) -> bool {
    job.steps().is_some_and(|made| made >= steps)
}

/// After an epoch's line and before the evaluation's, or in the last evaluation.
fn evaluates(job: &ChaosJob) -> bool {
    let Some(status) = job.status() else { return false };
    if status.phase == Phase::Evaluating {
        return true;
    }
    let text = fs::read_to_string(job.run().join(layout::METRICS)).unwrap_or_default();
    status.phase == Phase::Training
        && text.lines().last().is_some_and(|line| line.starts_with("{\"kind\":\"epoch\""))
}

fn writes_results(job: &ChaosJob) -> bool {
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

/// Names of checkpoints that are being written.
fn being_written(run: &Path) -> impl Iterator<Item = std::ffi::OsString> + use<> {
    let entries = fs::read_dir(run.join(layout::CHECKPOINTS)).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).filter(|name| {
        let name = name.as_encoded_bytes();
        name.first() == Some(&b'.') && name.windows(5).any(|part| part == b".tmp-")
    })
}
