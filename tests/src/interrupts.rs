//! Ctrl-C and TERM stop a harness cleanly: it reports what it has run, and removes what it has mounted and written.

use nix::sys::signal::{SigSet, Signal};
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether this process was asked to stop; no thread starts anything new then.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Receives Ctrl-C and TERM from now on. The runs that it started receive Ctrl-C from the terminal, too.
pub fn listen() -> nix::Result<()> {
    let mut asked = SigSet::empty();
    asked.add(Signal::SIGINT);
    asked.add(Signal::SIGTERM);
    asked.thread_block()?;
    std::thread::spawn(move || asked.wait().map(|_| INTERRUPTED.store(true, Ordering::Relaxed)));
    Ok(())
}
