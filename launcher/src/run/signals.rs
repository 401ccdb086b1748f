//! Records signals for the waiting loop.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

static INTERRUPTS: AtomicU32 = AtomicU32::new(0);
static PREEMPTIONS: AtomicU32 = AtomicU32::new(0);
static TERMINATIONS: AtomicU32 = AtomicU32::new(0);
/// The signal of the last request; 0 if there is none.
static LAST: AtomicI32 = AtomicI32::new(0);
static CONTINUATIONS: AtomicU32 = AtomicU32::new(0);

/// Number of requests of each kind since [`record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalCounts {
    /// INT: the user asks the run to stop.
    pub interrupts: u32,
    /// TERM, HUP, USR1, USR2: another program asks the run to save and stop.
    pub preemptions: u32,
    /// TERM only: in a job, Slurm has sent it to the ranks itself.
    pub terminations: u32,
}

extern "C" fn note(signal: i32) {
    const INT: i32 = Signal::SIGINT as i32;
    const CONT: i32 = Signal::SIGCONT as i32;
    const TERM: i32 = Signal::SIGTERM as i32;
    let counter = match signal {
        INT => &INTERRUPTS,
        CONT => &CONTINUATIONS,
        _ => &PREEMPTIONS,
    };
    if signal != CONT {
        LAST.store(signal, Ordering::SeqCst);
    }
    if signal == TERM {
        TERMINATIONS.fetch_add(1, Ordering::SeqCst);
    }
    counter.fetch_add(1, Ordering::SeqCst);
}

/// From here on, signals are only counted. A signal that was ignored before (`nohup`) stays ignored.
pub fn record() -> nix::Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    let requests = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP];
    let mut ours = SigSet::empty();
    for signal in requests.into_iter().chain([Signal::SIGCONT]) {
        ours.add(signal);
        // SAFETY: the handler only adds to an atomic, which is async-signal-safe.
        let before = unsafe { sigaction(signal, &action)? };
        if matches!(before.handler(), SigHandler::SigIgn) {
            // SAFETY: this is the disposition that the process was started with.
            unsafe { sigaction(signal, &before)? };
        }
    }
    // The parent may have blocked these signals, and a child inherits the mask.
    ours.thread_unblock()
}

/// The requests so far.
pub fn requests() -> SignalCounts {
    SignalCounts {
        interrupts: INTERRUPTS.load(Ordering::SeqCst),
        preemptions: PREEMPTIONS.load(Ordering::SeqCst),
        terminations: TERMINATIONS.load(Ordering::SeqCst),
    }
}

/// The signal of the last request.
pub fn last() -> Option<Signal> {
    Signal::try_from(LAST.load(Ordering::SeqCst)).ok()
}

/// How often this process was resumed after it was stopped.
pub fn continued() -> u32 {
    CONTINUATIONS.load(Ordering::SeqCst)
}
