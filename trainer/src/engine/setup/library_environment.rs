//! Variables that libraries read when they are loaded, before `main`, or when they open a GPU.
//!
//! The program sets them by replacing itself once. If that fails, it runs with the defaults of the libraries.
//!
//! A thread of OpenMP that waits spins first and then sleeps. GNU's OpenMP spins for about a millisecond by default. That is
//! fast on idle cores; on cores that are shared with other programs, the spinning thread uses the time that the thread it
//! waits for needs, and a step takes ten times as long. A short spin has most of the benefit at little cost:
//! docs/measurements.md has the figures.
//!
//! cuBLAS is bitwise repeatable only with a workspace of fixed size. This one has the size of the default of recent GPUs, so
//! every run on a GPU has it, whatever its determinism.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// GNU OpenMP's variable for the rounds of a spin before a waiting thread sleeps.
const SPIN: (&str, &str) = ("GOMP_SPINCOUNT", "10000");
/// Variables with which a user sets the wait policy.
const WAIT_POLICY: [&str; 3] = [SPIN.0, "OMP_WAIT_POLICY", "KMP_BLOCKTIME"];
/// The workspace of cuBLAS: eight buffers of 4096 KiB.
pub const CUBLAS_WORKSPACE: (&str, &str) = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8");

/// Sets the variables that the user has not set. Call it before a run starts.
pub fn set() {
    let missing = missing(|name| std::env::var_os(name));
    // By its path: the name of a process that starts `/proc/self/exe` is `exe`.
    let Ok(program) = std::env::current_exe() else { return };
    if missing.is_empty() {
        return;
    }
    let mut arguments = std::env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // Returns only if it fails.
    let _ = again.args(arguments).envs(missing).exec();
}

fn missing(get: impl Fn(&str) -> Option<OsString>) -> Vec<(&'static str, &'static str)> {
    let none_of = |names: &[&str]| names.iter().all(|name| get(name).is_none());
    let spin = none_of(&WAIT_POLICY).then_some(SPIN);
    spin.into_iter().chain(none_of(&[CUBLAS_WORKSPACE.0]).then_some(CUBLAS_WORKSPACE)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_has_set_stays() {
        let with =
            |set: &'static [&'static str]| missing(move |name| set.contains(&name).then(OsString::new));
        assert_eq!(with(&[]), [SPIN, CUBLAS_WORKSPACE]);
        assert_eq!(with(&["OMP_WAIT_POLICY"]), [CUBLAS_WORKSPACE]);
        assert_eq!(with(&["CUBLAS_WORKSPACE_CONFIG"]), [SPIN]);
        assert_eq!(with(&["GOMP_SPINCOUNT", "CUBLAS_WORKSPACE_CONFIG"]), []);
    }
}
