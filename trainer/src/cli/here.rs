//! Detects a deleted working directory before any library is initialised: Intel MKL, a part of libtorch, would end the
//! process with a message about its own path only.

use super::outcome::launched_rank;
use crate::run::say;
use nix::libc;
use protocol::{Outcome, current_folder};

/// Ends the process with an error if its working directory is deleted. The loader calls this function before the
/// initialisers of shared libraries and of Rust's standard library, so it does as little as possible.
pub extern "C" fn refuse_deleted_folder() {
    if let Err(error) = current_folder() {
        if launched_rank() == 0 {
            say(format_args!("error: {error}"));
        }
        // SAFETY: takes a number and does not return. Nothing has started that needs a shutdown.
        unsafe { libc::_exit(i32::from(Outcome::WRONG_INPUT)) }
    }
}
