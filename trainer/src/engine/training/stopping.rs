//! Requests to stop, handled by a separate thread: it reports them, and ends the process if the training thread does
//! not react.
//!
//! Usually the training thread checks requests between steps, and all ranks agree, save and shut down in order; it
//! announces this with [`StopListener::acknowledge`], and this thread does nothing more. A step that does not end (a file
//! system that does not answer, a very long step) must not delay the request. After a few seconds rank 0 saves the
//! state after the last finished step, notifies the others through the liveness channel, and every process ends
//! immediately.

use crate::engine::failure::Failure;
use crate::run::signals::{self, Signals, StopRequest};
use crate::run::{final_status, say};
use collectives::liveness::StopNotifier;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use protocol::{Outcome, environment};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Interval between two checks for requests.
const LOOK: Duration = Duration::from_millis(50);
/// Time limit for the current step to end.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The same while there is nothing to save yet: the work before the first step takes longer.
const STARTING: Duration = Duration::from_secs(10);
/// The same under `mpirun` without `lift run`, which kills its ranks a second after it has forwarded a request.
const UNDER_MPIRUN: Duration = Duration::from_millis(300);
/// Time limit for a save without the training thread.
const SAVING: Duration = Duration::from_secs(15);
/// How long a rank waits for rank 0 to end the job.
const ANSWER: Duration = Duration::from_secs(22);
/// Time limit for the final status if the user does not want to wait.
const LAST_WORD: Duration = Duration::from_millis(500);
/// Time that the other ranks have to end before rank 0 does.
const FAREWELL: Duration = Duration::from_millis(300);

/// Saves the state after the last finished step; returns its epoch and its number.
pub type EmergencySave = Box<dyn FnOnce() -> Result<(u64, u64), String> + Send>;

/// Listens for requests to stop, from the start of the process to its end. Clones share the state.
#[derive(Clone)]
pub struct StopListener(Arc<Shared>);

struct Shared {
    signals: Signals,
    /// Whether the thread runs.
    listens: AtomicBool,
    /// The [`StopRequest::code`] that another rank received, on rank 0.
    asked_elsewhere: AtomicI32,
    state: Mutex<StopState>,
}

#[derive(Default)]
struct StopState {
    rank: usize,
    /// Whether the training thread follows the request, or is at the end of its work.
    heeded: bool,
    /// Whether this thread is ending the process.
    leaving: bool,
    announced: bool,
    messenger: StopNotifier,
    rescue: Option<EmergencySave>,
    /// The command that resumes the run.
    resume: Option<String>,
}

impl StopListener {
    /// Installs the handlers and starts the thread.
    pub fn start() -> Result<Self, Errno> {
        let signals = Signals::install()?;
        let shared = Shared {
            signals,
            listens: AtomicBool::new(false),
            asked_elsewhere: AtomicI32::new(0),
            state: Mutex::default(),
        };
        let stopping = Self(Arc::new(shared));
        let theirs = Arc::clone(&stopping.0);
        match Builder::new().name("stopping".into()).spawn(move || theirs.listen()) {
            Ok(_) => stopping.0.listens.store(true, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!("requests to stop take effect only at the end of a step: {error}");
            }
        }
        Ok(stopping)
    }

    /// From now on, signals do not interrupt the calling thread, nor those that it starts: [`signals::block`]. Call it after the
    /// start of MPI, which starts processes that would inherit the mask, and before anything is computed.
    pub fn block_signals(&self) {
        if self.0.listens.load(Ordering::Relaxed)
            && let Err(error) = signals::block()
        {
            tracing::warn!("signals interrupt the training thread: {error}");
        }
    }

    /// The request that this rank received.
    pub fn requested(&self) -> Option<StopRequest> {
        self.0.signals.requested()
    }

    /// Fails if this rank received a request to stop; for work without steps, between its parts.
    pub fn check(&self) -> Result<(), Failure> {
        self.requested().map_or(Ok(()), |request| Err(Failure::stopped(request)))
    }

    /// Sets the rank of this process and its channel to the others when its work begins.
    pub fn begin(&self, rank: usize, messenger: StopNotifier) {
        let mut state = self.state();
        (state.rank, state.messenger, state.heeded, state.rescue) = (rank, messenger, false, None);
    }

    /// Another rank received a request to stop, and its step does not end.
    pub fn asked_elsewhere(&self, code: i32) {
        self.0.asked_elsewhere.fetch_max(code, Ordering::Relaxed);
    }

    /// Sets the command that resumes the run, once there is a run to resume.
    pub fn set_resume(&self, command: Option<String>) {
        self.state().resume = command;
    }

    /// Sets the function that saves the state after the last finished step; none if there is no such state.
    pub fn set_rescue(&self, rescue: Option<EmergencySave>) {
        self.state().rescue = rescue;
    }

    /// Announces that the training thread follows the request, or has reached the end of its work. Does not return if
    /// this process is already being ended.
    pub fn acknowledge(&self) {
        self.state().heeded = true;
    }

    /// Message about a run that stops.
    pub fn words(&self, request: StopRequest, how: &str) -> String {
        words(request, how, self.state().resume.as_deref())
    }

    /// For the training thread, which blocks here if this process is being ended.
    fn state(&self) -> MutexGuard<'_, StopState> {
        loop {
            let state = self.0.state();
            if !state.leaving {
                return state;
            }
            drop(state);
            std::thread::park();
        }
    }
}

fn words(request: StopRequest, how: &str, resume: Option<&str>) -> String {
    let resume = resume.map(|command| format!("; resume with: {command}")).unwrap_or_default();
    format!("stopped on request ({request}) {how}{resume}")
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, StopState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Main loop of the thread.
    fn listen(&self) {
        let (mut since, mut asked) = (None, None);
        loop {
            std::thread::sleep(LOOK);
            if self.signals.insisted() {
                self.end_at_once();
            }
            let elsewhere = StopRequest::from_code(self.asked_elsewhere.load(Ordering::Relaxed));
            let Some(request) = self.signals.requested().or(elsewhere) else { continue };
            let since: Instant = *since.get_or_insert_with(Instant::now);
            let mut state = self.state();
            if state.heeded {
                continue;
            }
            announce(&mut state, request);
            let starts = state.rank == 0 && state.rescue.is_none();
            // A rank that forwards a request during a step has already waited.
            let has_waited = elsewhere.is_some() && !starts;
            if since.elapsed() < timeout(request, starts) && !has_waited {
                continue;
            }
            if state.rank > 0 && since.elapsed() < ANSWER {
                if asked.is_none_or(|at: Instant| at.elapsed() > Duration::from_secs(1)) {
                    asked = Some(Instant::now());
                    state.messenger.ask(request.code());
                }
                continue;
            }
            state.leaving = true;
            let (rescue, resume) = (state.rescue.take(), state.resume.clone());
            let messenger = state.messenger.clone();
            drop(state);
            leave(request, rescue, resume.as_deref(), &messenger);
        }
    }

    /// The user does not want to wait: saves nothing, and writes the final status.
    fn end_at_once(&self) -> ! {
        let resume = self.state().resume.clone();
        let (done, written) = channel();
        let word = words(StopRequest::Stop(Signal::SIGINT), "before anything was saved", resume.as_deref());
        let _ = Builder::new().spawn(move || {
            tracing::warn!("{word}");
            let _ = done.send(final_status::write(Outcome::Interrupted, &word, None));
        });
        let _ = written.recv_timeout(LAST_WORD);
        exit(Outcome::Interrupted);
    }
}

/// Reports the request once, on rank 0 only.
fn announce(state: &mut StopState, request: StopRequest) {
    if std::mem::replace(&mut state.announced, true) || state.rank > 0 {
        return;
    }
    let again = if matches!(request, StopRequest::Stop(_)) { "; once more to stop at once" } else { "" };
    let resume = state.resume.as_deref().map(|command| format!("; resume with: {command}"));
    let what = if state.resume.is_some() { "saving and stopping" } else { "stopping" };
    aside(format!("{request}: {what}{again}{}", resume.unwrap_or_default()));
}

/// Time limit for the current step to end.
fn timeout(request: StopRequest, starts: bool) -> Duration {
    let under_mpirun = std::env::var_os("OMPI_COMM_WORLD_RANK").is_some()
        && std::env::var_os(environment::LAUNCHER_PID).is_none();
    match request {
        _ if under_mpirun && request.signal() == Signal::SIGTERM => UNDER_MPIRUN,
        StopRequest::Preempt(_) if starts => STARTING,
        _ => TIMEOUT,
    }
}

/// Ends the job from this thread on rank 0: saves, writes the final status, and ends the other ranks, whatever hangs.
fn leave(
    request: StopRequest,
    rescue: Option<EmergencySave>,
    resume: Option<&str>,
    messenger: &StopNotifier,
) -> ! {
    let outcome = request.outcome();
    let (done, written) = channel();
    let resume = resume.map(str::to_owned);
    let _ = Builder::new().name("rescue".into()).spawn(move || {
        let (at, how) = match rescue.map(|rescue| rescue()) {
            None => (None, "where there was nothing to save".to_owned()),
            Some(Ok((epoch, step))) => (
                Some((epoch, step)),
                format!("in the middle of a step; the state after step {step} is saved"),
            ),
            Some(Err(problem)) => {
                let how = format!("in the middle of a step; the state before it is not saved ({problem})");
                (None, how + ", so it is the last checkpoint from which the run resumes")
            }
        };
        let word = words(request, &how, resume.as_deref());
        tracing::warn!("{word}");
        if let Err(error) = final_status::write(outcome, &word, at) {
            tracing::error!("{error}");
        }
        let _ = done.send(());
    });
    if written.recv_timeout(SAVING).is_err() {
        aside(format!(
            "error: the state could not be saved within {} s: the disk does not answer",
            SAVING.as_secs()
        ));
    }
    messenger.leave(i32::from(outcome.exit_code()));
    std::thread::sleep(FAREWELL);
    exit(outcome)
}

/// Prints a message without waiting for a blocked terminal.
fn aside(sentence: String) {
    let _ = Builder::new().name("output_arguments".into()).spawn(move || say(sentence));
}

/// Ends the process immediately: the training thread may hang in MPI.
fn exit(outcome: Outcome) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(i32::from(outcome.exit_code())) }
}
