//! Which process a rank is: known to all ranks from the start, so that nobody ends the wrong one.

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, gethostname, getppid};
use serde::{Deserialize, Serialize};
use std::io;

/// A rank's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RankIdentity {
    pub(super) host: String,
    pub(super) pid: u32,
    /// Clock ticks from the host's start to the process's: with the pid it is unique on a machine.
    started: u64,
    /// The running kernel and its pid namespace: containers may share a host name but not their pids.
    machine: String,
}

impl RankIdentity {
    /// This process's.
    pub(super) fn own() -> io::Result<Self> {
        let pid = std::process::id();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let pids = std::fs::read_link("/proc/self/ns/pid")?;
        let started = start_time(pid).ok_or_else(|| io::Error::other("/proc/self/stat has no start time"))?;
        let host = gethostname()?.to_string_lossy().into_owned();
        Ok(Self { host, pid, started, machine: format!("{} {}", boot.trim(), pids.display()) })
    }

    /// Ends the process for good if it runs on the machine of `own` and its pid was not given to another since.
    /// Says whether it did.
    pub(super) fn kill_from(&self, own: &Self) -> bool {
        let other = self.pid != own.pid;
        other && self.runs_beside(own) && kill(Pid::from_raw(self.pid as i32), Signal::SIGKILL).is_ok()
    }

    /// It is still there, on the machine of `own`.
    pub(super) fn runs_beside(&self, own: &Self) -> bool {
        self.machine == own.machine && start_time(self.pid) == Some(self.started)
    }
}

/// Field 22 of `/proc/PID/stat`. The program's name before it may hold anything, also spaces and parentheses.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Kernel's number of the calling thread.
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
    fn a_process_is_killed_only_as_itself() {
        let own = RankIdentity::own().unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let there = RankIdentity { pid, started: start_time(pid).unwrap(), ..own.clone() };
        let other_start = RankIdentity { started: there.started + 1, ..there.clone() };
        let elsewhere = RankIdentity { machine: "another".into(), ..there.clone() };
        assert!(!other_start.kill_from(&own) && !elsewhere.kill_from(&own) && !own.kill_from(&own));
        assert!(child.try_wait().unwrap().is_none(), "still alive");
        assert!(there.kill_from(&own));
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
