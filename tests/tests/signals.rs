//! Requests to stop, at any time: Ctrl-C ends all ranks within five seconds, other signals within two steps.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::{Phase, Status, layout};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests::launched::{assert_same_result, ranks, signal, wait_for};
use tests::{steps_done, trainer};

fn wait(child: &mut Child, limit: Duration) -> Option<i32> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait().expect("the command can be waited for") {
            return Some(status.code().unwrap_or(-1));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Starts a run of several minutes in its own process group, like a terminal.
fn long_run(world: usize, output: &Path) -> Child {
    use std::os::unix::process::CommandExt;
    let mut command: Command = trainer(world);
    command.args(["train", "--set", "train.epochs=1000"]).arg("--output").arg(output);
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().expect("the trainer starts")
}

/// Starts a long evaluation.
fn long_evaluation(world: usize, output: &Path) -> Child {
    let mut command: Command = trainer(world);
    command.args(["train", "--set", "train.epochs=0", "--set", "eval.batch_size=1"]);
    command.args(["--set", "train.precision=fp64", "--set", "train.threads=1"]).arg("--output").arg(output);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the trainer starts")
}

#[test]
fn ctrl_c_ends_an_evaluation_within_five_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut child = long_evaluation(1, &output);
    wait_until_it_evaluates(&output);
    signal("INT", &child.id().to_string());
    assert_eq!(wait(&mut child, Duration::from_secs(5)), Some(130));
    assert!(!output.join("result.json").exists());
}

fn wait_until_it_evaluates(output: &Path) {
    wait_for("evaluation", Duration::from_mins(2), || {
        Status::read(output).is_ok_and(|status| status.phase == Phase::Evaluating)
    });
}

/// Without the request, the other ranks would continue for a long time.
#[test]
fn a_request_to_one_rank_ends_the_evaluation_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut child = long_evaluation(2, &output);
    wait_until_it_evaluates(&output);
    signal("TERM", &ranks(&output)[&1]);
    assert_eq!(wait(&mut child, Duration::from_secs(8)), Some(75));
}

#[test]
fn ctrl_c_ends_all_ranks_within_five_seconds() {
    for world in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("run");
        let mut child = long_run(world, &output);
        wait_for("a step", Duration::from_mins(2), || steps_done(&output) > 0);
        signal("INT", &format!("-{}", child.id()));
        let code = wait(&mut child, Duration::from_secs(5));
        assert!(code.is_some(), "{world} ranks still run five seconds after Ctrl-C");
        assert_ne!(code, Some(0));
        let marker = output.display().to_string();
        let remaining = Command::new("pgrep").args(["-f", &marker]).output().expect("pgrep runs");
        assert!(remaining.stdout.is_empty(), "still running: {}", String::from_utf8_lossy(&remaining.stdout));
    }
}

/// The current step ends, and in the next one all ranks agree to stop. Every step is saved here, and the metrics are
/// on disk before a checkpoint starts, so the number of steps in the metrics is exact up to the current step.
#[test]
fn a_run_saves_and_ends_within_two_steps_of_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let rounds = [(0, 1, "USR2"), (1, 2, "USR2"), (0, 3, "TERM"), (1, 4, "TERM")];
    for (round, (rank, after, name)) in rounds.into_iter().enumerate() {
        let output = folder.path().join(round.to_string());
        let mut command: Command = trainer(2);
        command.args(["train", "--set", "train.epochs=1000", "--set", "train.batch_size=64"]);
        command.args(["--set", "train.threads=1", "--set", "checkpoint.every_steps=1"]);
        command.arg("--output").arg(&output).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the trainer starts");
        wait_for("a step", Duration::from_mins(2), || steps_done(&output) >= after);
        signal(name, &ranks(&output)[&rank]);
        let steps = steps_done(&output);
        assert_eq!(wait(&mut child, Duration::from_mins(2)), Some(75));
        let step = Status::read(&output).unwrap().step;
        assert!(
            (steps..=steps + 2).contains(&step),
            "{name}: ended after step {step}, requested after {steps}"
        );
        let saved = output.join("checkpoints").join(layout::checkpoint(step));
        assert!(saved.is_dir(), "{} is missing", saved.display());
    }
}

/// A rank inherits the signal mask of the process that starts it.
#[test]
fn a_request_is_received_despite_a_blocked_signal_of_the_parent() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = Command::new("env");
    command.arg("--block-signal=TERM,USR2").arg(tests::binary("lift-trainer"));
    command.args(["train", "--set", "train.epochs=1000"]).arg("--output").arg(&output);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("a step", Duration::from_mins(2), || steps_done(&output) > 0);
    signal("TERM", &child.id().to_string());
    assert_eq!(wait(&mut child, Duration::from_mins(1)), Some(75));
}

/// Whether a process has a handler for this signal.
fn has_handler(pid: &str, signal: u32) -> bool {
    mask_has(Path::new(&format!("/proc/{pid}/status")), "SigCgt:", signal) == Some(true)
}

/// Whether a signal is in a mask of a process or a thread; none if it has ended.
fn mask_has(status: &Path, name: &str, signal: u32) -> Option<bool> {
    let status = std::fs::read_to_string(status).ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal - 1) & 1 == 1)
}

/// `MPI_Init` waits for all ranks: rank 0 waits for rank 1, which waits for this test.
#[test]
fn a_request_during_mpi_init_is_received() {
    const USR2: u32 = 12;
    let folder = tempfile::tempdir().unwrap();
    let (output, go, pid) = (folder.path().join("run"), folder.path().join("go"), folder.path().join("pid"));
    let script = "if [ $OMPI_COMM_WORLD_RANK = 0 ]; then echo $$ > $PID; else
        while [ ! -e $GO ]; do sleep 0.05; done; fi; exec \"$@\"";
    let mut command = tests::mpirun(2);
    command.args(["sh", "-c", script, "sh"]).arg(tests::binary("lift-trainer"));
    command.args(["train", "--set", "train.epochs=1000"]).arg("--output").arg(&output);
    command.env("GO", &go).env("PID", &pid).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("mpirun starts");
    let start = Instant::now();
    let rank = || std::fs::read_to_string(&pid).unwrap_or_default().trim().to_owned();
    while !has_handler(&rank(), USR2) {
        assert!(start.elapsed() < Duration::from_mins(1), "rank 0 handles signals before MPI has started");
        std::thread::sleep(Duration::from_millis(10));
    }
    signal("USR2", &rank());
    std::fs::write(go, "").unwrap();
    assert_eq!(wait(&mut child, Duration::from_mins(2)), Some(75));
    let status = Status::read(&output).unwrap();
    // On a busy machine, the start before the first step takes longer than the request waits.
    assert!(status.phase == Phase::Preempted && status.step <= 1, "{status:?}");
}

/// The threads of a process that a signal may interrupt, by name.
fn receivers(pid: &str, signal: u32) -> Vec<String> {
    let threads =
        std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|thread| thread.unwrap().path());
    let receives =
        |thread: &std::path::PathBuf| mask_has(&thread.join("status"), "SigBlk:", signal) == Some(false);
    let name = |thread: std::path::PathBuf| {
        let name = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
        let main = if thread.ends_with(pid) { " (main)" } else { "" };
        format!("{}{main}", name.trim())
    };
    threads.filter(receives).map(name).collect()
}

/// A handler on the stack of a thread that computes would change what it computes, or end the process.
#[test]
fn thousands_of_signals_in_one_step_do_not_change_the_result() {
    const TERM: u32 = 15;
    let folder = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        let mut command: Command = trainer(1);
        command.args(["train", "-q", "--set", "train.max_steps=4", "--set", "train.batch_size=768"]);
        command.args(["--set", "train.threads=2", "--resume", "auto"]);
        command.arg("--output").arg(folder.path().join(name));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the trainer starts")
    };
    let undisturbed = wait(&mut start("undisturbed"), Duration::from_mins(2));
    assert_eq!(undisturbed, Some(0));

    let run = folder.path().join("run");
    let mut child = start("run");
    wait_for("a step", Duration::from_mins(2), || steps_done(&run) > 0);
    let pid = child.id().to_string();
    let receivers = receivers(&pid, TERM);
    assert!(receivers.iter().any(|name| name == "stopping"), "{receivers:?}");
    assert!(!receivers.iter().any(|name| name.contains("main") || name.contains("data")), "{receivers:?}");
    let names = [Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP];
    let mut sent = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        for name in names {
            sent += u32::from(kill(Pid::from_raw(child.id() as i32), name).is_ok());
        }
    };
    assert_eq!(status.code(), Some(75), "{status}, after {sent} signals");
    assert!(sent > 2000, "{sent} signals were sent");
    assert_eq!(wait(&mut start("run"), Duration::from_mins(2)), Some(0));
    assert_same_result(&folder.path().join("undisturbed"), &run);
}
