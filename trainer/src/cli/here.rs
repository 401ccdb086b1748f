//! A deleted current folder, found before any library runs: Intel MKL, which libtorch brings, would end the process with a
//! word about its own path alone.

use super::outcome::launched_rank;
use crate::run::say;
use nix::libc;
use protocol::{Outcome, current_folder};

/// Ends the process, with a sentence, if its current folder is gone. The linker has it called before the initialisers of
/// shared libraries and before Rust's own, so it does little.
pub extern "C" fn refuse_deleted_folder() {
    if let Err(error) = current_folder() {
        if launched_rank() == 0 {
            say(format_args!("error: {error}"));
        }
        // SAFETY: takes a number and does not return. Nothing has begun that would have to end.
        unsafe { libc::_exit(i32::from(Outcome::WRONG_INPUT)) }
    }
}
