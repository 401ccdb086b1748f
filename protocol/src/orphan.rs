//! A rank exits when its parent process is gone.
//!
//! `mpirun` ends its ranks when it exits. If it is killed itself (`kill -9`, the OOM killer), the ranks stay behind,
//! occupy their GPUs, and wait for messages forever. Each rank therefore polls whether its parent is still the same:
//! `mpirun` on the first host, its daemon on the others, `slurmstepd` under Slurm, `lift run` for a single rank.
//! `PR_SET_PDEATHSIG` is not used: it is bound to the *thread* that forked, and from 32 ranks per host Open MPI forks
//! in threads that exit as soon as all ranks are up.

use crate::environment;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use std::time::Duration;

/// Polling interval.
const LOOK: Duration = Duration::from_millis(200);

/// Variables that show that a launcher started the process. A trainer started by hand may outlive its shell.
const STARTED_BY_LAUNCHER: [&str; 3] = [environment::LAUNCHER_PID, "OMPI_COMM_WORLD_RANK", "PMIX_RANK"];

/// Kills this process as soon as its parent is gone, if a launcher started it. Call it first in `main`: a parent that
/// is already gone is noticed only for a single rank under `lift run`.
pub fn watch_parent() {
    if STARTED_BY_LAUNCHER.iter().any(|name| std::env::var_os(name).is_some()) {
        let parent = getppid();
        // Without the thread, the rank only misses this check.
        let _ = std::thread::Builder::new().name("orphan".to_owned()).spawn(move || end_with(parent));
    }
}

fn end_with(parent: Pid) {
    while getppid() == parent {
        std::thread::sleep(LOOK);
    }
    // No process is left to report to, and the other ranks exit in the same way. KILL, because an orderly shutdown
    // would wait for them.
    let _ = kill(getpid(), Signal::SIGKILL);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    /// Role of this test program when a test starts it again.
    const SCENE: &str = "LIFT_TEST_ORPHAN_SCENE";

    /// `sh` that starts this program as a child of its own, and waits for it.
    fn parent_of_a_rank(variable: &str) -> (Child, Pid) {
        let own = std::env::current_exe().unwrap();
        let test = "orphan::tests::scenes";
        let line = format!("'{}' --exact {test} --nocapture & wait; :", own.display());
        let mut command = Command::new("sh");
        command.args(["-c", &line]).env(SCENE, "rank").env(variable, "0").stdout(Stdio::piped());
        for name in STARTED_BY_LAUNCHER.iter().filter(|name| **name != variable) {
            command.env_remove(name);
        }
        let mut shell = command.spawn().unwrap();
        let lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let number = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("pid ")?.parse().ok());
        (shell, Pid::from_raw(number.unwrap()))
    }

    #[test]
    fn scenes() {
        if std::env::var_os(SCENE).is_some() {
            watch_parent();
            println!("\npid {}", std::process::id());
            std::thread::sleep(Duration::from_secs(20));
        }
    }

    fn ends(process: Pid, limit: Duration) -> bool {
        let start = Instant::now();
        let alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while alive() && start.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
        !alive()
    }

    #[test]
    fn a_rank_ends_when_its_parent_is_killed() {
        for variable in STARTED_BY_LAUNCHER {
            let (mut shell, rank) = parent_of_a_rank(variable);
            assert!(!ends(rank, LOOK * 2), "its parent is there");
            shell.kill().unwrap();
            shell.wait().unwrap();
            assert!(ends(rank, Duration::from_secs(5)), "{variable}");
        }
    }

    #[test]
    fn a_trainer_started_by_hand_outlives_its_shell() {
        let (mut shell, rank) = parent_of_a_rank("LIFT_SOMETHING_ELSE");
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert!(!ends(rank, LOOK * 3));
        kill(rank, Signal::SIGKILL).unwrap();
    }
}
