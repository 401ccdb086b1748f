//! Descendants of this process, read from `/proc`.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};
use std::time::{Duration, Instant};

/// A process of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: Pid,
    parent: Pid,
    program: String,
    state: ProcessState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProcessState {
    /// Stopped by a signal; a debugger uses another state.
    Stopped,
    /// It has exited, and its parent has not reaped it.
    Zombie,
    Other,
}

/// A process that a signal has stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedProcess {
    /// Its process ID.
    pub pid: Pid,
    /// Its rank, if its environment names one.
    pub rank: Option<usize>,
    /// Its name.
    pub program: String,
}

/// Descendants of this process that a signal has stopped.
pub fn stopped() -> Vec<StoppedProcess> {
    let stopped = below(getpid()).into_iter().filter(|process| process.state == ProcessState::Stopped);
    stopped.map(|Process { pid, program, .. }| StoppedProcess { pid, rank: rank_of(pid), program }).collect()
}

/// Ranks on this machine that `mpirun` started: those of its children that have a rank in their environment.
pub fn ranks_below(mpirun: Pid) -> Vec<Pid> {
    let children =
        all().into_iter().filter(|process| process.parent == mpirun && process.state != ProcessState::Zombie);
    children.map(|process| process.pid).filter(|pid| rank_of(*pid).is_some()).collect()
}

/// Kills and reaps all descendants. This process is a subreaper, so they include orphans of other processes. Returns
/// the number of processes that did not exit within `limit`.
pub fn end_all_below(limit: Duration) -> usize {
    let start = Instant::now();
    loop {
        reap();
        let left = below(getpid());
        if left.is_empty() || start.elapsed() > limit {
            return left.len();
        }
        for process in left {
            // A process that has exited in the meantime needs no signal.
            let _ = kill(process.pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reaps children that have exited.
fn reap() {
    while !matches!(
        waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD)
    ) {}
}

/// Descendants of this process that have not exited.
fn below(top: Pid) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![top];
    while let Some(parent) = parents.pop() {
        let children = all.iter().filter(|process| process.parent == parent);
        parents.extend(children.clone().map(|process| process.pid));
        found.extend(children.filter(|process| process.state != ProcessState::Zombie).cloned());
    }
    found
}

fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(process).collect()
}

/// `PID (name) STATE PARENT ...`; the name may contain any character, including parentheses.
fn process(pid: i32) -> Option<Process> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (program, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = match fields.next()? {
        "T" => ProcessState::Stopped,
        "Z" | "X" => ProcessState::Zombie,
        _ => ProcessState::Other,
    };
    let parent = Pid::from_raw(fields.next()?.parse().ok()?);
    Some(Process { pid: Pid::from_raw(pid), parent, program: program.to_owned(), state })
}

/// The rank that `mpirun` assigned to a process.
fn rank_of(pid: Pid) -> Option<usize> {
    let variables = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let number =
        variables.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"PMIX_RANK="))?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    #[test]
    fn children_and_their_children_are_found_and_a_name_with_parentheses_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a) Z 1 (b");
        std::fs::copy("/bin/sleep", &odd).unwrap();
        let line = format!("'{}' 20 & wait", odd.display());
        let mut shell = Command::new("sh").args(["-c", &line]).spawn().unwrap();
        let top = Pid::from_raw(shell.id() as i32);
        let start = Instant::now();
        while below(top).len() != 1 && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let children = below(top);
        assert_eq!(children.len(), 1);
        assert_eq!(children[0].program, "a) Z 1 (b");
        assert!(below(getpid()).contains(&children[0]));
        kill(children[0].pid, Signal::SIGKILL).unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn only_a_child_with_a_rank_is_a_rank() {
        let plain = Command::new("sleep").arg("20").spawn().unwrap();
        let rank = Command::new("sleep").arg("20").env("PMIX_RANK", "3").spawn().unwrap();
        let start = Instant::now();
        let is_rank = |child: &Child| ranks_below(getpid()).contains(&Pid::from_raw(child.id() as i32));
        while !is_rank(&rank) && start.elapsed() < Duration::from_secs(5) {}
        assert!(is_rank(&rank) && !is_rank(&plain));
        for mut child in [plain, rank] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn what_is_stopped_is_found_with_its_rank() {
        let mut rank = Command::new("sleep").arg("20").env("PMIX_RANK", "3").spawn().unwrap();
        let pid = Pid::from_raw(rank.id() as i32);
        let found = || stopped().into_iter().find(|process| process.pid == pid);
        assert_eq!(found(), None);
        kill(pid, Signal::SIGSTOP).unwrap();
        let start = Instant::now();
        while found().is_none() && start.elapsed() < Duration::from_secs(5) {}
        assert_eq!(found(), Some(StoppedProcess { pid, rank: Some(3), program: "sleep".into() }));
        rank.kill().unwrap();
        rank.wait().unwrap();
    }
}
