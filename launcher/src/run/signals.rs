//! Signals that arrived, for the waiting loop to look at.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

static INTERRUPTS: AtomicU32 = AtomicU32::new(0);
static PREEMPTIONS: AtomicU32 = AtomicU32::new(0);
static TERMINATIONS: AtomicU32 = AtomicU32::new(0);
/// The signal of the last wish; 0 before it.
static LAST: AtomicI32 = AtomicI32::new(0);
static CONTINUATIONS: AtomicU32 = AtomicU32::new(0);

/// How often each wish was uttered since [`record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalCounts {
    /// INT: the person wants it to end.
    pub interrupts: u32,
    /// TERM, HUP, USR1, USR2: something else wants it to save and end.
    pub preemptions: u32,
    /// TERM among them: in a job, Slurm has told the ranks itself.
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

/// From now on signals are counted and do nothing else. One that was ignored before (`nohup`) stays ignored.
pub fn record() -> nix::Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    let wishes = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP];
    let mut ours = SigSet::empty();
    for signal in wishes.into_iter().chain([Signal::SIGCONT]) {
        ours.add(signal);
        // SAFETY: the handler only adds to an atomic, which is async-signal-safe.
        let before = unsafe { sigaction(signal, &action)? };
        if matches!(before.handler(), SigHandler::SigIgn) {
            // SAFETY: this is the disposition that the process was started with.
            unsafe { sigaction(signal, &before)? };
        }
    }
    // Whoever started this process may have held them back, and that is inherited.
    ours.thread_unblock()
}

/// What was wished for so far.
pub fn wishes() -> SignalCounts {
    SignalCounts {
        interrupts: INTERRUPTS.load(Ordering::SeqCst),
        preemptions: PREEMPTIONS.load(Ordering::SeqCst),
        terminations: TERMINATIONS.load(Ordering::SeqCst),
    }
}

/// The signal that the last wish came by.
pub fn last() -> Option<Signal> {
    Signal::try_from(LAST.load(Ordering::SeqCst)).ok()
}

/// How often this process went on after it was stopped.
pub fn continued() -> u32 {
    CONTINUATIONS.load(Ordering::SeqCst)
}
