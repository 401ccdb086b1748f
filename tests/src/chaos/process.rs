//! Processes of a run, found by the run folder in their command lines.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A process of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChaosProcess {
    /// Process id.
    pub pid: u32,
    /// Its rank; `None` for the launcher.
    pub rank: Option<usize>,
}

/// Sends a signal to these processes, and returns how many were alive.
pub fn send<'a>(processes: impl IntoIterator<Item = &'a ChaosProcess>, signal: Signal) -> usize {
    let received = |process: &&ChaosProcess| {
        let was_alive = is_alive(process.pid);
        kill(Pid::from_raw(process.pid as i32), signal).is_ok() && was_alive
    };
    processes.into_iter().filter(received).count()
}

/// Whether a process is alive; zombies accept signals without effect.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// All processes whose command line contains `run`, except this one. `launcher` is the process that is not a rank.
pub fn of_run(run: &Path, launcher: Option<u32>) -> Vec<ChaosProcess> {
    let run = run.as_os_str().as_encoded_bytes();
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| pid != own && has_argument(pid, run))
        .filter_map(|pid| Some(ChaosProcess { pid, rank: rank_of(pid, launcher)? }))
        .collect()
}

fn has_argument(pid: u32, run: &[u8]) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).any(|argument| argument == run)
}

/// The rank of a process; `None` for a process that has forked but not yet started its program.
#[expect(clippy::option_option, reason = "no process, a process without a rank, a rank")]
fn rank_of(pid: u32, launcher: Option<u32>) -> Option<Option<usize>> {
    if launcher == Some(pid) {
        return Some(None);
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if !name.starts_with("lift-trainer") {
        return launcher.is_none().then_some(None);
    }
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let rank = environment.split(|&byte| byte == 0).find_map(|variable| {
        std::str::from_utf8(variable).ok()?.strip_prefix("OMPI_COMM_WORLD_RANK=")?.parse().ok()
    });
    Some(Some(rank.unwrap_or(0)))
}

/// Stacks of the threads of these processes.
pub fn stacks(processes: &[ChaosProcess]) -> String {
    let mut text = String::new();
    for ChaosProcess { pid, rank } in processes {
        let output = Command::new("gdb")
            .args(["-p", &pid.to_string(), "-batch", "-nx", "-ex", "thread apply all bt 24"])
            .output();
        let stack = output.map_or_else(
            |error| format!("no stack: gdb: {error}"),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        );
        let _ = writeln!(text, "--- process {pid}, rank {rank:?}\n{stack}");
    }
    text
}
