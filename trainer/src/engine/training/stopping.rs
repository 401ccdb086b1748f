//! Requests to stop, heard by a thread of its own: it says what happens, and ends the process where the thread that
//! trains does not come to it.
//!
//! In the ordinary case that thread looks at requests between steps, all ranks agree, save and leave in order; it
//! says so with [`StopListener::heed`], and nothing more is done here. A step that does not end (a file system that does not
//! answer, a very long step) must not hold up the request. After a few seconds rank 0 saves what the last finished step
//! left, tells the others through the liveness channel, and every process ends where it stands.

use crate::engine::failure::Failure;
use crate::run::{Signals, StopRequest, last_words, say};
use collectives::liveness::StopNotifier;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use protocol::{Outcome, environment};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Time between two looks at the requests.
const LOOK: Duration = Duration::from_millis(50);
/// How long the step under way may take to end.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The same while nothing could be saved yet: what a run does before its first step takes longer.
const STARTING: Duration = Duration::from_secs(10);
/// The same under an `mpirun` of the person's own, which kills its ranks a second after it has passed a request on.
const UNDER_MPIRUN: Duration = Duration::from_millis(300);
/// How long saving may take without the thread that trains.
const SAVING: Duration = Duration::from_secs(15);
/// How long a rank waits for rank 0 to end the job.
const ANSWER: Duration = Duration::from_secs(22);
/// How long the last word may take when the person does not want to wait.
const LAST_WORD: Duration = Duration::from_millis(500);
/// How long the others have to end before rank 0 does.
const FAREWELL: Duration = Duration::from_millis(300);

/// Saves what the last finished step left; gives its epoch and its number.
pub type EmergencySave = Box<dyn FnOnce() -> Result<(u64, u64), String> + Send>;

/// Hears requests to stop, from the start of the process to its end. Clones are the same.
#[derive(Clone)]
pub struct StopListener(Arc<Shared>);

struct Shared {
    signals: Signals,
    /// The [`Request::code`] that another rank was asked with, on rank 0.
    asked_elsewhere: AtomicI32,
    state: Mutex<StopState>,
}

#[derive(Default)]
struct StopState {
    rank: usize,
    /// The thread that trains does as it was asked, or is at the end of its work.
    heeded: bool,
    /// This process is being ended here.
    leaving: bool,
    announced: bool,
    messenger: StopNotifier,
    rescue: Option<EmergencySave>,
    /// What a person types to resume the run.
    resume: Option<String>,
}

impl StopListener {
    /// Puts the handlers in place and starts the thread.
    pub fn start() -> Result<Self, Errno> {
        let signals = Signals::install()?;
        let shared = Shared { signals, asked_elsewhere: AtomicI32::new(0), state: Mutex::default() };
        let stopping = Self(Arc::new(shared));
        let theirs = Arc::clone(&stopping.0);
        let started = Builder::new().name("stopping".into()).spawn(move || theirs.listen());
        if let Err(error) = started {
            tracing::warn!("requests to stop wait for the end of a step: {error}");
        }
        Ok(stopping)
    }

    /// What this rank was asked for.
    pub fn requested(&self) -> Option<StopRequest> {
        self.0.signals.requested()
    }

    /// A failure if this rank was asked to stop; for work that makes no steps, between its parts.
    pub fn check(&self) -> Result<(), Failure> {
        self.requested().map_or(Ok(()), |request| Err(Failure::stopped(request)))
    }

    /// This process is a rank, which reaches the others in this way; its work begins.
    pub fn begin(&self, rank: usize, messenger: StopNotifier) {
        let mut state = self.state();
        (state.rank, state.messenger, state.heeded, state.rescue) = (rank, messenger, false, None);
    }

    /// Another rank was asked to stop, and its step does not end.
    pub fn asked_elsewhere(&self, code: i32) {
        self.0.asked_elsewhere.fetch_max(code, Ordering::Relaxed);
    }

    /// What a person types to resume the run, once there is one to resume.
    pub fn set_resume(&self, command: Option<String>) {
        self.state().resume = command;
    }

    /// How the state after the last finished step is saved; none while there is no such state.
    pub fn set_rescue(&self, rescue: Option<EmergencySave>) {
        self.state().rescue = rescue;
    }

    /// The thread that trains does as it was asked, or comes to the end of its work by itself. Where this process is
    /// being ended already, this does not return.
    pub fn heed(&self) {
        self.state().heeded = true;
    }

    /// What becomes of a run that stops, in words.
    pub fn words(&self, request: StopRequest, how: &str) -> String {
        words(request, how, self.state().resume.as_deref())
    }

    /// For the thread that trains. Where this process is being ended that thread comes no further than here.
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

    /// The life of the thread.
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
            // Who asks from elsewhere in the middle of a step has waited before.
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

    /// The person does not want to wait. Nothing is saved, and the run says how it ended.
    fn end_at_once(&self) -> ! {
        let resume = self.state().resume.clone();
        let (done, written) = channel();
        let word = words(StopRequest::Stop(Signal::SIGINT), "before anything was saved", resume.as_deref());
        let _ = Builder::new().spawn(move || {
            tracing::warn!("{word}");
            let _ = done.send(last_words::leave(Outcome::Interrupted, &word, None));
        });
        let _ = written.recv_timeout(LAST_WORD);
        exit(Outcome::Interrupted);
    }
}

/// Says what happens, once, and by rank 0 alone.
fn announce(state: &mut StopState, request: StopRequest) {
    if std::mem::replace(&mut state.announced, true) || state.rank > 0 {
        return;
    }
    let again = if matches!(request, StopRequest::Stop(_)) { "; once more to stop at once" } else { "" };
    let resume = state.resume.as_deref().map(|command| format!("; resume with: {command}"));
    let what = if state.resume.is_some() { "saving and stopping" } else { "stopping" };
    aside(format!("{request}: {what}{again}{}", resume.unwrap_or_default()));
}

/// How long the step under way may take to end.
fn timeout(request: StopRequest, starts: bool) -> Duration {
    let under_mpirun = std::env::var_os("OMPI_COMM_WORLD_RANK").is_some()
        && std::env::var_os(environment::LAUNCHER_PID).is_none();
    match request {
        _ if under_mpirun && request.signal() == Signal::SIGTERM => UNDER_MPIRUN,
        StopRequest::Preempt(_) if starts => STARTING,
        _ => TIMEOUT,
    }
}

/// Ends the job from here, on rank 0: saves, leaves a word, and takes the others along. Whatever hangs meanwhile, it ends.
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
        if let Err(error) = last_words::leave(outcome, &word, at) {
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

/// Says something without waiting for a terminal that takes nothing.
fn aside(sentence: String) {
    let _ = Builder::new().name("talk".into()).spawn(move || say(sentence));
}

/// Ends the process where it stands: the thread that trains may hang in MPI.
fn exit(outcome: Outcome) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(i32::from(outcome.exit_code())) }
}
