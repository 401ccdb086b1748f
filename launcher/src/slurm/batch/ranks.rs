//! Monitors the ranks of a job: asks them to save when Slurm signals that the time limit is near, and ends them when
//! their heartbeat stops.

use super::launch::Launch;
use crate::run::attempt::{ASK_AGAIN, exit_code};
use crate::run::first_failure::{FailedRank, Scanner, relay};
use crate::run::{StartError, signals};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::layout;
use protocol::terminal::say;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// Polling interval for the ranks.
const LOOK: Duration = Duration::from_millis(200);
/// Time for which standard error may stay open after srun or mpirun has exited.
const STREAM_ENDS: Duration = Duration::from_secs(2);

/// The limit for ranks without a heartbeat.
#[derive(Debug, Clone)]
pub struct Silence {
    status: PathBuf,
    limit: Duration,
}

impl Silence {
    /// Ranks of this run that do not update `status.json` for so many seconds are ended.
    pub fn of(run: &Path, seconds: u64) -> Self {
        Self { status: run.join(layout::STATUS), limit: Duration::from_secs(seconds) }
    }

    /// Age of the status in seconds, if it exceeds the limit for ranks that were started this long ago.
    fn broken(&self, started: Duration) -> Option<Duration> {
        let changed = self.status.metadata().and_then(|data| data.modified()).ok()?;
        let age = SystemTime::now().duration_since(changed).unwrap_or_default();
        (started.min(age) >= self.limit).then_some(age)
    }
}

/// Whether the ranks must be asked to save and stop. After TERM, Slurm has already done so.
pub fn wants_save() -> bool {
    let requests = signals::requests();
    requests.interrupts > 0 || requests.preemptions > requests.terminations
}

/// Whether Slurm is ending this job.
pub fn is_ended_by_slurm() -> bool {
    signals::requests().terminations > 0
}

/// Starts the ranks and waits for their end. Returns the exit code of the launcher, which is only a hint, and the rank
/// that it reports as the first to fail.
pub fn run(
    launch: &Launch,
    arguments: &[OsString],
    silence: Option<&Silence>,
) -> Result<(i32, Option<FailedRank>), StartError> {
    let program = launch.program.to_owned();
    let mut child = launch
        .command(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| StartError::Trainer { program, source })?;
    let errors = child.stderr.take().map(relay);
    let code = wait(&mut child, silence).map_err(StartError::Watch)?;
    let start = Instant::now();
    while errors.as_ref().is_some_and(|errors| !errors.is_finished()) && start.elapsed() < STREAM_ENDS {
        std::thread::sleep(Duration::from_millis(10));
    }
    // A leftover process may keep the stream open; its output is not waited for.
    let heard = errors.filter(std::thread::JoinHandle::is_finished).and_then(|errors| errors.join().ok());
    Ok((code, heard.and_then(Scanner::found)))
}

fn wait(child: &mut Child, silence: Option<&Silence>) -> std::io::Result<i32> {
    let (started, pid) = (Instant::now(), Pid::from_raw(child.id() as i32));
    let signal_ranks = |signal| {
        // A process that has exited in the meantime needs no signal.
        let _ = kill(pid, signal);
    };
    let mut asked: Option<Instant> = None;
    let mut is_ending = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(exit_code(status));
        }
        if wants_save() && !is_ending && asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
            if asked.is_none() {
                say("lift: asking the ranks to save and end");
            }
            // srun and mpirun forward USR2 to all ranks. They do not forward TERM but end the ranks at once.
            signal_ranks(Signal::SIGUSR2);
            asked = Some(Instant::now());
        }
        if let Some(silence) = silence.filter(|_| asked.is_none() && !is_ending)
            && let Some(age) = silence.broken(started.elapsed())
        {
            let (file, age, limit) = (silence.status.display(), age.as_secs(), silence.limit.as_secs());
            say(format_args!("lift: {file} has not changed for {age} s (LIFT_HANG_SECONDS={limit})"));
            say("lift: ending the ranks");
            signal_ranks(Signal::SIGTERM);
            is_ending = true;
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranks_that_had_the_time_to_speak_are_silent() {
        let run = tempfile::tempdir().unwrap();
        let silence = Silence::of(run.path(), 100);
        assert_eq!(silence.broken(Duration::from_secs(1000)), None, "no status yet");
        let file = std::fs::File::create(run.path().join("status.json")).unwrap();
        assert_eq!(silence.broken(Duration::from_secs(1000)), None, "a new status");
        file.set_modified(SystemTime::now() - Duration::from_secs(200)).unwrap();
        assert_eq!(silence.broken(Duration::from_secs(99)), None, "of an earlier start");
        assert!(silence.broken(Duration::from_secs(100)).is_some_and(|age| age.as_secs() >= 200));
    }
}
