//! The wait policy of libtorch's threads.
//!
//! A waiting thread spins first and then sleeps. GNU's OpenMP spins for about a millisecond by default. That is fast on
//! idle cores; on cores that are shared with other programs, the spinning thread uses the time that the thread it waits
//! for needs, and a step takes ten times as long. A short spin has most of the benefit at little cost:
//! docs/measurements.md has the figures.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Rounds of a spin before a waiting thread sleeps.
const SPIN: &str = "10000";
/// GNU OpenMP's variable for them.
const SPIN_VARIABLE: &str = "GOMP_SPINCOUNT";
/// Variables with which a user sets the policy.
const OF_USER: [&str; 3] = [SPIN_VARIABLE, "OMP_WAIT_POLICY", "KMP_BLOCKTIME"];

/// Bounds the spin, unless the user has set the policy. Call it before a run starts: OpenMP reads its environment when
/// it is loaded, before `main`, so the program re-executes itself with the variable set. If that fails, it runs with
/// OpenMP's default spin and computes the same.
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
