//! Ctrl-C and TERM end a harness in order: what was played is counted, and what was mounted and written is taken back.

use nix::sys::signal::{SigSet, Signal};
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether this process was asked to end: then nothing more is begun, in any thread.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Minds Ctrl-C and TERM from now on. The runs that were started get Ctrl-C from the terminal as well.
pub fn mind() -> nix::Result<()> {
    let mut asked = SigSet::empty();
    asked.add(Signal::SIGINT);
    asked.add(Signal::SIGTERM);
    asked.thread_block()?;
    std::thread::spawn(move || asked.wait().map(|_| INTERRUPTED.store(true, Ordering::Relaxed)));
    Ok(())
}
