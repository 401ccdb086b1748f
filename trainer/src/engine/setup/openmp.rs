//! How libtorch's threads wait for each other.
//!
//! A thread that waits spins, in the hope of a short wait, and sleeps after that. GNU's OpenMP spins for about a
//! millisecond by default. On idle cores that is quick; on cores that other programs want too, the spinning thread takes
//! the time that the one it waits for needs, and a step takes ten times as long. A short spin has most of the one and little of
//! the other: docs/measurements.md has the figures.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Rounds of a spin before a waiting thread sleeps.
const SPIN: &str = "10000";
/// GNU OpenMP's variable for them.
const SPIN_VARIABLE: &str = "GOMP_SPINCOUNT";
/// Variables by which a user decides it.
const OF_USER: [&str; 3] = [SPIN_VARIABLE, "OMP_WAIT_POLICY", "KMP_BLOCKTIME"];

/// Bounds the spin, unless the user has decided it. To be called before anything of a run begins: OpenMP reads its
/// environment when it is loaded, which is before `main`, so the program takes its own place with the variable set. Where
/// that is not possible it computes the same, at OpenMP's own spin.
pub fn bound_spin() {
    if OF_USER.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    // By its path: the name of a process that starts `/proc/self/exe` is `exe`.
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // Returns only if it fails.
    let _ = again.args(arguments).env(SPIN_VARIABLE, SPIN).exec();
}
