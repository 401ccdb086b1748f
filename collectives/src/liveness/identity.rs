//! The identity of a rank's process. All ranks know it from the start, so that none of them kills a wrong process.

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, gethostname, getppid};
use serde::{Deserialize, Serialize};
use std::io;

/// The process of a rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RankIdentity {
    pub(super) host: String,
    pub(super) pid: u32,
    /// Start time in clock ticks since the boot; unique on a machine together with the pid.
    started: u64,
    /// The running kernel and its pid namespace: containers may share a host name but not their pids.
    machine: String,
}

impl RankIdentity {
    /// The identity of this process.
    pub(super) fn own() -> io::Result<Self> {
        let pid = std::process::id();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let pids = std::fs::read_link("/proc/self/ns/pid")?;
        let started = start_time(pid).ok_or_else(|| io::Error::other("/proc/self/stat has no start time"))?;
        let host = gethostname()?.to_string_lossy().into_owned();
        Ok(Self { host, pid, started, machine: format!("{} {}", boot.trim(), pids.display()) })
    }

    /// Kills the process if it runs on the machine of `own` and its pid has not been reused. Returns whether it did.
    pub(super) fn kill_from(&self, own: &Self) -> bool {
        let other = self.pid != own.pid;
        other && self.runs_beside(own) && kill(Pid::from_raw(self.pid as i32), Signal::SIGKILL).is_ok()
    }

    /// Whether the process still runs, on the machine of `own`.
    pub(super) fn runs_beside(&self, own: &Self) -> bool {
        self.machine == own.machine && start_time(self.pid) == Some(self.started)
    }
}

/// Field 22 of `/proc/PID/stat`. The program name before it may contain spaces and parentheses.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Kernel id of the calling thread.
pub(super) fn own_thread() -> libc::pid_t {
    nix::unistd::gettid().as_raw()
}

/// The process that started this one, if it is Open MPI's `mpirun`.
pub(super) fn parent_mpirun() -> Option<Pid> {
    let parent = getppid();
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).ok()?;
    ["mpirun", "orterun", "mpiexec"].contains(&name.trim()).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn only_a_process_with_the_same_start_time_and_machine_is_killed() {
        let own = RankIdentity::own().unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let child_identity = RankIdentity { pid, started: start_time(pid).unwrap(), ..own.clone() };
        let other_start = RankIdentity { started: child_identity.started + 1, ..child_identity.clone() };
        let elsewhere = RankIdentity { machine: "another".into(), ..child_identity.clone() };
        assert!(!other_start.kill_from(&own) && !elsewhere.kill_from(&own) && !own.kill_from(&own));
        assert!(child.try_wait().unwrap().is_none(), "still alive");
        assert!(child_identity.kill_from(&own));
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
