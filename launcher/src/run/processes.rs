//! The processes below this one, from `/proc`.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};
use std::time::{Duration, Instant};

/// A process of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: Pid,
    parent: Pid,
    zombie: bool,
}

/// Ranks on this machine that `mpirun` started: its children that were given a rank.
pub fn ranks_below(mpirun: Pid) -> Vec<Pid> {
    let children = all().into_iter().filter(|process| process.parent == mpirun && !process.zombie);
    children.map(|process| process.pid).filter(|pid| has_rank(*pid)).collect()
}

/// Kills everything below this process, and takes leave of it. Since this process is a subreaper, that includes
/// what other processes left behind. Gives the number of processes that could not be ended in `limit`.
pub fn end_all_below(limit: Duration) -> usize {
    let start = Instant::now();
    loop {
        reap();
        let left: Vec<Pid> = below(getpid());
        if left.is_empty() || start.elapsed() > limit {
            return left.len();
        }
        for pid in left {
            // One that is gone by now needs no signal.
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Takes leave of children that have ended.
fn reap() {
    while !matches!(
        waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD)
    ) {}
}

fn below(top: Pid) -> Vec<Pid> {
    let all = all();
    let mut found = vec![top];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(all.iter().filter(|process| process.parent == parent).map(|process| process.pid));
        next += 1;
    }
    let alive = |pid: &Pid| all.iter().any(|process| process.pid == *pid && !process.zombie);
    found.into_iter().skip(1).filter(alive).collect()
}

fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(process).collect()
}

/// `PID (name) STATE PARENT ...`; the name may hold anything, also parentheses.
fn process(pid: i32) -> Option<Process> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    Some(Process { pid: Pid::from_raw(pid), parent: Pid::from_raw(fields.next()?.parse().ok()?), zombie })
}

fn has_rank(pid: Pid) -> bool {
    let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    variables.split(|byte| *byte == 0).any(|variable| variable.starts_with(b"PMIX_RANK="))
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
        assert!(below(getpid()).contains(&children[0]));
        kill(children[0], Signal::SIGKILL).unwrap();
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
}
