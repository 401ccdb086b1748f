//! What a rank does about a verdict: say it, end the culprit, end itself.
//!
//! It runs on threads of its own, because the main thread may hang in MPI for ever, and because what is said may
//! itself hang (a log on a dead file system): a second thread ends the process in any case.

use super::LivenessOptions;
use super::diagnosis::{Diagnosis, LastReport, RankFailure};
use super::identity::{RankIdentity, parent_mpirun};
use super::stack;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From a verdict to the end of a process, whatever happens.
const LAST: Duration = Duration::from_millis(1900);
/// The same where nothing is in the way: long enough for the others to hear it and for logs to be written.
const SETTLED: Duration = Duration::from_millis(500);
/// A stopped process is killed before the launcher hears of any end.
const SILENT: Duration = Duration::from_millis(200);
/// A stuck one may first write down where it is stuck.
const STUCK: Duration = Duration::from_millis(1400);

/// All that is needed to end.
pub(super) struct Shutdown {
    pub(super) rank: usize,
    pub(super) identities: Vec<RankIdentity>,
    pub(super) options: LivenessOptions,
    /// The thread that is watched, for its stack.
    pub(super) thread: libc::pid_t,
    /// Where it stood when its stack was last written.
    pub(super) written: Mutex<Option<(u64, u64)>>,
}

impl Shutdown {
    /// Ends this process because of `verdict`; returns at once.
    pub(super) fn begin(self: &Arc<Self>, verdict: Diagnosis) {
        let code = self.options.exit_code;
        let last = move || {
            std::thread::sleep(LAST);
            exit(code);
        };
        let ending = self.clone();
        let started = Instant::now();
        let threads = [spawn(last), spawn(move || ending.carry_out(&verdict, started))];
        if threads.iter().any(std::io::Result::is_err) {
            exit(code);
        }
    }

    fn carry_out(&self, verdict: &Diagnosis, started: Instant) {
        tracing::error!("{verdict}");
        (self.options.on_verdict)(verdict);
        if verdict.rank == self.rank {
            if verdict.kind == RankFailure::Stuck {
                self.write_stack(&verdict.standing);
            }
        } else {
            self.end_culprit(verdict, started);
        }
        sleep_until(started + SETTLED);
        self.end_waiting_launcher(verdict);
        exit(self.options.exit_code);
    }

    /// Ends a process that cannot or does not end itself, if it is on this machine.
    fn end_culprit(&self, verdict: &Diagnosis, started: Instant) {
        let (Some(culprit), own) = (self.identities.get(verdict.rank), &self.identities[self.rank]) else {
            return;
        };
        let grace = if verdict.kind == RankFailure::Stuck { STUCK } else { SILENT };
        while culprit.runs_beside(own) && started.elapsed() < grace {
            std::thread::sleep(Duration::from_millis(10));
        }
        if verdict.kind != RankFailure::Dead && culprit.kill_from(own) {
            tracing::error!("killed process {} of rank {}", culprit.pid, verdict.rank);
        }
    }

    /// Writes the watched thread's stack into the log, once for each place where it stands.
    pub(super) fn write_stack(&self, standing: &LastReport) {
        let place = Some((standing.step, standing.calls));
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written == place {
            return;
        }
        let LastReport { step, phase, operation, idle, .. } = standing;
        let (stack, idle) = (stack::of_thread(self.thread), idle.as_secs_f64());
        tracing::error!("no progress for {idle:.1} s after step {step} ({phase}, in {operation}); {stack}");
        *written = place;
    }

    /// Open MPI's mpirun sleeps between asking its ranks to end and killing them, for as long as it was told, even
    /// when none is left. Where that is long, its ranks wake it: a second request within five seconds ends it.
    ///
    /// It also passes nothing on while it sleeps, so what the ranks said of a death would be lost: the first rank
    /// that is left says it where mpirun would have.
    fn end_waiting_launcher(&self, verdict: &Diagnosis) {
        let told = std::env::var("OMPI_MCA_odls_base_sigkill_timeout").ok();
        let Some(_) = told.and_then(|seconds| seconds.parse::<u32>().ok()).filter(|&seconds| seconds > 1)
        else {
            return;
        };
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

/// Ends this process since rank 0 ends the job.
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

/// Ends the process without running anything of it: destructors would call MPI, which hangs.
fn exit(code: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}
