//! Requests to stop, as signals: from the user (INT), or from the scheduler or a closing terminal (TERM, HUP, USR1,
//! USR2).
//!
//! A handler only sets flags. The training loop checks them between steps, where all ranks agree on what to do; the
//! [`StopListener`](crate::engine::training::stopping::StopListener) checks them in a separate thread, for a step that
//! does not end and for a user who presses Ctrl-C again. The handlers run in that thread: see [`block`].

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use protocol::Outcome;
use std::fmt;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// The first signal from the scheduler; 0 for none.
static PREEMPTED_BY: AtomicI32 = AtomicI32::new(0);
/// How often the user pressed Ctrl-C.
static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

/// Seconds after the second Ctrl-C at which the process ends even without a message.
const LAST_SECONDS: u32 = 1;

/// The exit code when the alarm goes off.
static LAST_CODE: AtomicI32 = AtomicI32::new(Outcome::INTERRUPTED as i32);

/// Added to the number of a signal that means [`StopRequest::Stop`], in [`StopRequest::code`].
const STOP: i32 = 1000;

/// The request of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopRequest {
    /// Save and end, without a restart: a request of the user (INT).
    Stop(Signal),
    /// Save and end such that the run can be resumed: a request of the scheduler (TERM, HUP, USR1, USR2).
    Preempt(Signal),
}

/// The signals that are handled: requests, and the alarm of [`end_within`].
const HANDLED: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM];

/// Proof that the handlers are installed.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Signals;

impl Signals {
    /// Installs the handlers permanently, for the whole process. Repeated calls have no effect.
    pub fn install() -> Result<Self, Errno> {
        // Interrupted system calls restart after the handler: file reads and MPI do not handle our signals. Until `block`, a thread
        // that computes is at least interrupted on another stack than its own.
        let ours = SigSet::from_iter(HANDLED);
        let flags = SaFlags::SA_RESTART | SaFlags::SA_ONSTACK;
        let action = SigAction::new(SigHandler::Handler(on_signal), flags, ours);
        for signal in HANDLED {
            // SAFETY: `on_signal` does only what POSIX allows in a handler: lock-free atomics, `alarm`, `_exit`.
            let before = unsafe { sigaction(signal, &action)? };
            if signal == Signal::SIGHUP && matches!(before.handler(), SigHandler::SigIgn) {
                // Under `nohup`, this process ignores the end of the terminal. SAFETY: restores the disposition that
                // the process was started with.
                unsafe { sigaction(signal, &before)? };
            }
        }
        // The parent process may have blocked the signals, and a blocked mask is inherited.
        ours.thread_unblock()?;
        Ok(Self)
    }

    /// Whether the user pressed Ctrl-C again.
    pub fn insisted(&self) -> bool {
        INTERRUPTS.load(Ordering::Relaxed) > 1
    }

    /// The request since the handlers were installed. A request of the user has priority over one of the scheduler.
    pub fn requested(&self) -> Option<StopRequest> {
        if INTERRUPTS.load(Ordering::Relaxed) > 0 {
            return Some(StopRequest::Stop(Signal::SIGINT));
        }
        Signal::try_from(PREEMPTED_BY.load(Ordering::Relaxed)).ok().map(StopRequest::Preempt)
    }
}

/// Blocks the signals in this thread, and in the threads that it starts from now on. Another thread must receive them.
///
/// A handler must not interrupt a thread that computes: kernels of oneDNN and MKL, which are generated when they are first used,
/// store values below the top of the stack, beyond the 128 bytes that the kernel of the system leaves free for that, and
/// the frame of a handler would overwrite them.
pub fn block() -> Result<(), Errno> {
    SigSet::from_iter(HANDLED).thread_block()
}

/// Ends the process with this outcome after so many seconds, unless its threads end it sooner. Without installed
/// [`Signals`], the alarm signal ends it.
pub fn end_within(seconds: u32, outcome: Outcome) {
    LAST_CODE.store(i32::from(outcome.exit_code()), Ordering::Relaxed);
    // SAFETY: sets a timer.
    unsafe { libc::alarm(seconds) };
}

impl StopRequest {
    /// The outcome of a run that follows the request.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Stop(_) => Outcome::Interrupted,
            Self::Preempt(_) => Outcome::Preempted,
        }
    }

    /// The signal.
    pub const fn signal(self) -> Signal {
        match self {
            Self::Stop(signal) | Self::Preempt(signal) => signal,
        }
    }

    /// A positive number for a maximum over the ranks, not all of which may have received the signal: a request of the
    /// user is greater than one of the scheduler, and 0 is no request.
    pub const fn code(self) -> i32 {
        match self {
            Self::Stop(signal) => STOP + signal as i32,
            Self::Preempt(signal) => signal as i32,
        }
    }

    /// The request of a [`StopRequest::code`]; none for 0 and for any other number.
    pub fn from_code(code: i32) -> Option<Self> {
        match code.checked_sub(STOP).map(Signal::try_from) {
            Some(Ok(signal)) => Some(Self::Stop(signal)),
            _ => Signal::try_from(code).ok().map(Self::Preempt),
        }
    }
}

impl fmt::Display for StopRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.signal().as_str())
    }
}

extern "C" fn on_signal(signal: c_int) {
    let interrupt = signal == Signal::SIGINT as c_int;
    if signal == Signal::SIGALRM as c_int {
        // SAFETY: `_exit` may be called from a handler. No state of this process is needed any more.
        unsafe { libc::_exit(LAST_CODE.load(Ordering::Relaxed)) };
    } else if interrupt {
        if INTERRUPTS.fetch_add(1, Ordering::Relaxed) > 0 {
            // SAFETY: `alarm` may be called from a handler.
            unsafe { libc::alarm(LAST_SECONDS) };
        }
    } else {
        let _ = PREEMPTED_BY.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{kill, raise};
    use nix::unistd::Pid;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    /// The flags belong to the process, so every test that sends signals runs in its own process: this test program
    /// again, with the name of a scene in the environment.
    const SCENE: &str = "LIFT_TEST_SIGNALS_SCENE";

    fn play(scene: &str) -> Child {
        // It may be ignored if the tests run in the background.
        let name = module_path!().split_once("::").unwrap().1.to_owned() + "::scenes";
        Command::new("env")
            .arg("--default-signal=HUP")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture", "--test-threads=1"])
            .env(SCENE, scene)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs the scene in the child process. Without a scene, does nothing.
    #[test]
    fn scenes() {
        let Ok(scene) = std::env::var(SCENE) else { return };
        let signals = Signals::install().unwrap();
        Signals::install().unwrap();
        assert_eq!(signals.requested(), None);
        if scene == "waits" {
            println!("\nready");
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::process::exit(3);
        }
        for name in scene.split(',') {
            raise(name.parse().unwrap()).unwrap();
        }
        let request = signals.requested().unwrap();
        println!("\nrequest {request} {}", request.outcome().exit_code());
        std::process::exit(0);
    }

    fn report_of(scene: &str) -> String {
        let output = play(scene).wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find(|line| line.starts_with("request")).unwrap().to_owned()
    }

    #[test]
    fn each_signal_is_a_request() {
        assert_eq!(report_of("SIGINT"), "request SIGINT 130");
        assert_eq!(report_of("SIGTERM"), "request SIGTERM 75");
        assert_eq!(report_of("SIGUSR1"), "request SIGUSR1 75");
        assert_eq!(report_of("SIGUSR2"), "request SIGUSR2 75");
        assert_eq!(report_of("SIGHUP"), "request SIGHUP 75");
    }

    #[test]
    fn the_first_of_the_scheduler_counts_and_the_person_goes_before_it() {
        assert_eq!(report_of("SIGUSR1,SIGTERM,SIGTERM,SIGTERM"), "request SIGUSR1 75");
        assert_eq!(report_of("SIGTERM,SIGINT,SIGUSR2"), "request SIGINT 130");
    }

    #[test]
    fn the_second_interrupt_ends_the_process_at_once() {
        let mut child = play("waits");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "ready"));
        let pid = Pid::from_raw(child.id() as i32);
        kill(pid, Signal::SIGTERM).unwrap();
        kill(pid, Signal::SIGINT).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(child.try_wait().unwrap().is_none(), "one of each is a request, not the end");
        kill(pid, Signal::SIGINT).unwrap();
        let asked = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(asked.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn codes_come_back_and_order_requests() {
        let requests = [
            StopRequest::Preempt(Signal::SIGUSR1),
            StopRequest::Preempt(Signal::SIGTERM),
            StopRequest::Stop(Signal::SIGINT),
        ];
        for request in requests {
            assert!(request.code() > 0);
            assert_eq!(StopRequest::from_code(request.code()), Some(request));
        }
        assert!(requests[0].code() < requests[2].code() && requests[1].code() < requests[2].code());
        for code in [0, -1, 500, 1000, 2000, i32::MIN, i32::MAX] {
            assert_eq!(StopRequest::from_code(code), None, "{code}");
        }
    }
}
