//! `status.json` of a current run, written by a separate thread, so that a slow disk does not delay a step.
//!
//! The thread writes while this rank makes progress, in any part of the run. If the rank stands still, the file becomes
//! stale, which a watcher can detect.

use crate::run::{Claim, final_status};
use collectives::Activity;
use protocol::{Outcome, Phase, Status, StatusError, hint};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How often the status is written.
const INTERVAL: Duration = Duration::from_secs(2);
/// Interval between warnings that it cannot be written.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// The status of a run, and the thread that writes it.
pub struct Heartbeat {
    shared: Arc<Shared>,
    claim: Arc<Claim>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    interval: Duration,
    state: Mutex<HeartbeatState>,
    /// Notified if the status has to be written at once.
    news: Condvar,
}

struct HeartbeatState {
    status: Status,
    has_news: bool,
    has_ended: bool,
}

impl Heartbeat {
    /// Starts with this status, which is already on disk, in the claimed run folder.
    pub fn start(status: Status, claim: Arc<Claim>, activity: Activity) -> io::Result<Self> {
        Self::with_interval(INTERVAL, status, claim, activity)
    }

    fn with_interval(
        interval: Duration,
        status: Status,
        claim: Arc<Claim>,
        activity: Activity,
    ) -> io::Result<Self> {
        let state = Mutex::new(HeartbeatState { status, has_news: false, has_ended: false });
        let shared = Arc::new(Shared { interval, state, news: Condvar::new() });
        let (theirs, place) = (Arc::clone(&shared), Arc::clone(&claim));
        let thread = Builder::new().name("status".into()).spawn(move || theirs.beat(&place, &activity))?;
        Ok(Self { shared, claim, thread: Some(thread) })
    }

    /// Begins another part of the run.
    pub fn set_phase(&self, phase: Phase) {
        let mut state = self.shared.state();
        state.status.phase = phase;
        state.has_news = true;
        drop(state);
        self.shared.news.notify_all();
    }

    /// Reports progress.
    pub fn set_step(&self, epoch: u64, step: u64) {
        let mut state = self.shared.state();
        (state.status.epoch, state.status.step) = (epoch, step);
    }

    /// Writes the final status, which is on disk when this returns. If the folder was moved, the status goes there, and
    /// never into the folder of another run.
    pub fn end(&mut self, outcome: Outcome, message: Option<String>) -> Result<(), StatusError> {
        self.stop();
        let mut state = self.shared.state();
        state.status.end(outcome, message);
        let _lock = final_status::lock();
        self.claim.place_of_last_word().map_or(Ok(()), |folder| state.status.write(&folder))
    }

    fn stop(&mut self) {
        self.shared.state().has_ended = true;
        self.shared.news.notify_all();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::warn!("the thread that writes the status panicked");
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, HeartbeatState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Main loop of the thread, which ends when the run has lost its folder.
    fn beat(&self, claim: &Claim, activity: &Activity) {
        let folder = claim.path();
        let mut written = Instant::now();
        let mut warned: Option<Instant> = None;
        loop {
            let (has_news, has_ended, mut status) = self.wait();
            if has_ended || claim.check().is_err() {
                return;
            }
            let (_, idle) = activity.now();
            if !has_news && idle > written.elapsed() {
                continue;
            }
            let _lock = final_status::lock();
            if Status::read(folder).is_ok_and(|status| status.outcome.is_some()) {
                // The code that detected a dead or stuck rank has already written the final status.
                return;
            }
            written = Instant::now();
            if let Err(error) = status.write_quickly(folder)
                && warned.is_none_or(|warned| warned.elapsed() >= WARNING_INTERVAL)
            {
                warned = Some(written);
                tracing::warn!("{}", hint::with_clause(error, "training continues and tries again"));
            }
        }
    }

    fn wait(&self) -> (bool, bool, Status) {
        let is_quiet = |state: &mut HeartbeatState| !state.has_news && !state.has_ended;
        let waited = self.news.wait_timeout_while(self.state(), self.interval, is_quiet);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let has_news = std::mem::take(&mut state.has_news);
        (has_news, state.has_ended, state.status.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    const SHORT: Duration = Duration::from_millis(50);

    fn read_until(folder: &Path, so: impl Fn(&Status) -> bool) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if Status::read(folder).is_ok_and(|status| so(&status)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn started(folder: &Path, activity: &Activity) -> Heartbeat {
        let mut status = Status::starting(1);
        status.write(folder).unwrap();
        let claim = Arc::new(Claim::take(folder).unwrap());
        Heartbeat::with_interval(SHORT, status, claim, activity.clone()).unwrap()
    }

    #[test]
    fn phases_are_told_at_once_and_work_keeps_the_file_young() {
        let folder = tempfile::tempdir().unwrap();
        let activity = Activity::default();
        let mut heartbeat = started(folder.path(), &activity);
        heartbeat.set_phase(Phase::Evaluating);
        assert!(read_until(folder.path(), |status| status.phase == Phase::Evaluating));
        heartbeat.set_step(1, 7);
        drop(activity.enter("batch"));
        assert!(read_until(folder.path(), |status| (status.epoch, status.step) == (1, 7)));
        heartbeat.end(Outcome::Done, None).unwrap();
        assert_eq!(Status::read(folder.path()).unwrap().phase, Phase::Done);
    }

    #[test]
    fn a_rank_that_stands_still_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let activity = Activity::default();
        let heartbeat = started(folder.path(), &activity);
        heartbeat.set_step(1, 7);
        std::thread::sleep(4 * SHORT);
        assert_eq!(Status::read(folder.path()).unwrap().step, 0);
    }

    #[test]
    fn the_word_of_whoever_found_a_dead_rank_stays() {
        let folder = tempfile::tempdir().unwrap();
        let heartbeat = started(folder.path(), &Activity::default());
        let mut verdict = Status::read(folder.path()).unwrap();
        verdict.end(Outcome::Failed, Some("rank 1 is gone".into()));
        verdict.write(folder.path()).unwrap();
        heartbeat.set_phase(Phase::Evaluating);
        std::thread::sleep(4 * SHORT);
        assert_eq!(Status::read(folder.path()).unwrap().phase, Phase::Failed);
    }
}
