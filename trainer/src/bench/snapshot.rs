//! The cost of a checkpoint for the training thread: the snapshot, not the concurrent write.

use super::exchange::greatest;
use super::statistics::median;
use crate::config::Resolved;
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::session::Session;
use crate::engine::training::progress::Progress;
use crate::engine::training::run_log::RunLog;
use crate::engine::training::saver::{SaveReason, Saver};
use crate::run::{MetricsRecord, RunDestination, RunFolder, RunStart, StepRecord, WaitSeconds};
use protocol::layout;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// The interval between checkpoints that the cost is compared with.
pub const INTERVAL_SECONDS: f64 = 30.0;
/// Largest share of the interval for a snapshot.
pub const MOST_SHARE: f64 = 0.005;

/// Longest wait for the write of a checkpoint before the next one is submitted.
const LONGEST_WRITE: Duration = Duration::from_mins(1);

/// Figures of snapshots.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SnapshotReport {
    /// Seconds of the first one, which has no buffers to reuse.
    pub first_seconds: f64,
    /// Seconds of the later ones: the median, of the slowest rank.
    pub seconds: f64,
    /// Seconds until it is on disk, concurrently with training: the median.
    pub written_seconds: f64,
    /// Bytes of a checkpoint's tensors.
    pub bytes: u64,
    /// The slower of first and later ones, as a share of 30 seconds.
    pub share_of_30_seconds: f64,
    /// Whether that is at most 0.5 %.
    pub within_limit: bool,
}

/// Takes snapshots as training does, into a folder that is removed afterwards. Collective.
pub(crate) fn measure(
    session: &Session,
    rank: &Rank,
    resolved: &Resolved,
    count: usize,
    place: &Path,
) -> Result<SnapshotReport, Failure> {
    rank.begin("snapshots");
    let configuration = resolved.to_toml();
    let folder = agreed(&rank.control, || {
        let create =
            || RunFolder::create(&RunDestination::Named(place.to_owned()), &configuration, RunStart::Fresh);
        rank.leads().then(create).transpose().map_err(Failure::input)
    })?;
    let report = snapshots(session, rank, configuration, count, folder.as_ref());
    if let Some(folder) = folder {
        let path = folder.path().to_owned();
        drop(folder);
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!("cannot remove `{}`: {error}", path.display());
        }
    }
    report
}

fn snapshots(
    session: &Session,
    rank: &Rank,
    config: String,
    count: usize,
    folder: Option<&RunFolder>,
) -> Result<SnapshotReport, Failure> {
    let identity = session.identity(config);
    let mut recorder = RunLog::open(folder, rank, None, false)?;
    let mut saver = agreed(&rank.control, || Saver::start(&session.config, rank, identity, folder))?;
    let trainables = session.model.trainables();
    let momentum = trainables.flat().zeros_like();
    let mut progress = Progress::default();
    let (mut times, mut written) = (Vec::new(), Vec::new());
    for _ in 0..count.max(2) {
        progress.steps += 1;
        // Written in any case: the lines of the steps since the last checkpoint.
        recorder.append(&MetricsRecord::Step(line(progress.steps)));
        rank.control.barrier()?;
        let (start, before) = (Instant::now(), saver.seconds());
        saver.save(trainables, &momentum, &progress, &mut recorder, SaveReason::Regular)?;
        times.push(greatest(&rank.control, saver.seconds() - before)?);
        if let Some(folder) = folder {
            wait_for(&folder.checkpoints().join(layout::checkpoint(progress.steps)), start);
        }
        written.push(start.elapsed().as_secs_f64());
    }
    agreed(&rank.control, || saver.finish())?;
    let numbers: i64 = trainables.shapes().map(|(_, shape)| shape.iter().product::<i64>()).sum();
    let bytes = 2 * numbers as u64 * momentum.kind().elt_size_in_bytes() as u64;
    Ok(SnapshotReport::new(&times, &written, bytes))
}

impl SnapshotReport {
    fn new(times: &[f64], written: &[f64], bytes: u64) -> Self {
        let first_seconds = times.first().copied().unwrap_or(f64::NAN);
        let seconds = median(times.get(1..).unwrap_or_default());
        let share_of_30_seconds = first_seconds.max(seconds) / INTERVAL_SECONDS;
        Self {
            first_seconds,
            seconds,
            written_seconds: median(written),
            bytes,
            share_of_30_seconds,
            within_limit: share_of_30_seconds <= MOST_SHARE,
        }
    }
}

fn wait_for(checkpoint: &Path, start: Instant) {
    while !checkpoint.exists() && start.elapsed() < LONGEST_WRITE {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn line(step: u64) -> StepRecord {
    StepRecord {
        epoch: 0,
        step,
        loss: 1.0 / 3.0,
        learning_rate: 0.01,
        samples: 128,
        images_per_second: 1000.0 / 3.0,
        data_wait: 0.0,
        wait: WaitSeconds::default(),
        finite: true,
        bytes: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_half_a_percent_of_thirty_seconds_for_the_first_snapshot_too() {
        let within = SnapshotReport::new(&[0.15, 0.01, 0.03, 0.02], &[0.5], 8);
        assert!(within.within_limit && within.seconds == 0.02, "{within:?}");
        assert!(!SnapshotReport::new(&[0.16, 0.01], &[0.5], 8).within_limit);
        assert!(!SnapshotReport::new(&[0.01, 0.16], &[0.5], 8).within_limit);
    }
}
