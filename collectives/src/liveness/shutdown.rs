//! Carries out a verdict: a rank logs it, kills the culprit if necessary, and ends its own process.
//!
//! This runs on separate threads, because the main thread may hang in MPI. Logging may hang as well (a log on a dead
//! file system), so a second thread ends the process after a fixed time.

use super::LivenessOptions;
use super::diagnosis::{Diagnosis, LastReport, RankFailure};
use super::identity::{RankIdentity, parent_mpirun};
use super::stack;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Maximum time from a verdict to the end of this process.
const MAX_DELAY: Duration = Duration::from_millis(1900);
/// Minimum time from a verdict to the end, so that the other ranks receive it and the logs are written.
const MIN_DELAY: Duration = Duration::from_millis(500);
/// Time after which a silent culprit is killed: before the launcher sees any rank end.
const SILENT_GRACE: Duration = Duration::from_millis(200);
/// Time after which a stuck culprit is killed: it first writes its stack.
const STUCK_GRACE: Duration = Duration::from_millis(1400);

/// The data that ending the process needs.
pub(super) struct Shutdown {
    pub(super) rank: usize,
    pub(super) identities: Vec<RankIdentity>,
    pub(super) options: LivenessOptions,
    /// The monitored thread, whose stack is written.
    pub(super) thread: libc::pid_t,
    /// Step and collective calls at which its stack was last written.
    pub(super) stack_written_at: Mutex<Option<(u64, u64)>>,
}

impl Shutdown {
    /// Begins to end this process because of `verdict`. Returns at once.
    pub(super) fn begin(self: &Arc<Self>, verdict: Diagnosis) {
        let code = self.options.exit_code;
        let force_exit = move || {
            std::thread::sleep(MAX_DELAY);
            exit(code);
        };
        let shutdown = self.clone();
        let started = Instant::now();
        let threads = [spawn(force_exit), spawn(move || shutdown.carry_out(&verdict, started))];
        if threads.iter().any(std::io::Result::is_err) {
            exit(code);
        }
    }

    fn carry_out(&self, verdict: &Diagnosis, started: Instant) {
        tracing::error!("{verdict}");
        (self.options.on_verdict)(verdict);
        if verdict.rank == self.rank {
            if verdict.kind == RankFailure::Stuck {
                self.write_stack(&verdict.report);
            }
        } else {
            self.kill_culprit(verdict, started);
        }
        sleep_until(started + MIN_DELAY);
        self.wake_mpirun(verdict);
        exit(self.options.exit_code);
    }

    /// Kills the process of the culprit if it runs on this machine and does not end by itself.
    fn kill_culprit(&self, verdict: &Diagnosis, started: Instant) {
        let (Some(culprit), own) = (self.identities.get(verdict.rank), &self.identities[self.rank]) else {
            return;
        };
        let grace = if verdict.kind == RankFailure::Stuck { STUCK_GRACE } else { SILENT_GRACE };
        while culprit.runs_beside(own) && started.elapsed() < grace {
            std::thread::sleep(Duration::from_millis(10));
        }
        if verdict.kind != RankFailure::Dead && culprit.kill_from(own) {
            tracing::error!("killed process {} of rank {}", culprit.pid, verdict.rank);
        }
    }

    /// Logs the stack of the monitored thread, once per step and collective call.
    pub(super) fn write_stack(&self, report: &LastReport) {
        let place = Some((report.step, report.calls));
        let mut stack_written_at = self.stack_written_at.lock().unwrap_or_else(PoisonError::into_inner);
        if *stack_written_at == place {
            return;
        }
        let LastReport { step, phase, operation, idle, .. } = report;
        let (stack, idle) = (stack::of_thread(self.thread), idle.as_secs_f64());
        tracing::error!("no progress for {idle:.1} s after step {step} ({phase}, in {operation}); {stack}");
        *stack_written_at = place;
    }

    /// Wakes an `mpirun` that sleeps longer than a second between TERM and KILL, even if no rank is left: a second
    /// TERM within five seconds ends it.
    ///
    /// A sleeping `mpirun` forwards no output, so the verdict on a dead rank would be lost. The lowest remaining rank
    /// writes it directly to the standard error of `mpirun`.
    fn wake_mpirun(&self, verdict: &Diagnosis) {
        let timeout = std::env::var("OMPI_MCA_odls_base_sigkill_timeout").ok();
        let timeout = timeout.and_then(|seconds| seconds.parse::<u32>().ok());
        if timeout.is_none_or(|seconds| seconds <= 1) {
            return;
        }
        let Some(mpirun) = parent_mpirun() else { return };
        if verdict.kind == RankFailure::Dead && self.rank == usize::from(verdict.rank == 0) {
            let errors = std::fs::OpenOptions::new().append(true).open(format!("/proc/{mpirun}/fd/2"));
            let _ = errors.and_then(|mut errors| errors.write_all(format!("{verdict}\n").as_bytes()));
        }
        for _ in 0..2 {
            if parent_mpirun() == Some(mpirun) {
                let _ = kill(mpirun, Signal::SIGTERM);
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Ends this process because rank 0 ends the job.
pub(super) fn leave(code: i32) -> ! {
    tracing::info!("rank 0 ends the job with exit code {code}");
    exit(code)
}

fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name("liveness-end".into()).spawn(work).map(drop)
}

fn sleep_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// Ends the process without running destructors, which would call MPI and hang.
fn exit(code: i32) -> ! {
    // SAFETY: the call takes an integer and does not return.
    unsafe { libc::_exit(code) }
}
