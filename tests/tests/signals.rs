//! Requests to stop: Ctrl-C ends all ranks within five seconds, others within two steps, whenever they come.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use protocol::{Phase, Status, layout};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests::launched::{ranks, signal, wait_for};
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

/// A run that would go on for minutes, in a process group of its own, as a terminal would start it.
fn long_run(world: usize, output: &Path) -> Child {
    use std::os::unix::process::CommandExt;
    let mut command: Command = trainer(world);
    command.args(["train", "--set", "train.epochs=1000"]).arg("--output").arg(output);
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().expect("the trainer starts")
}

/// A run that evaluates for a long time.
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

/// The others would be through with the list long after.
#[test]
fn a_request_that_one_rank_hears_ends_the_evaluation_of_all() {
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
        let left = Command::new("pgrep").args(["-f", &marker]).output().expect("pgrep runs");
        assert!(left.stdout.is_empty(), "left running: {}", String::from_utf8_lossy(&left.stdout));
    }
}

/// The step under way ends, and the next one tells all ranks to leave. Lines of metrics are on disk before a checkpoint
/// is begun, and here every step is saved: what is counted after the request was made before it, or is under way.
#[test]
fn a_run_is_saved_and_left_within_two_steps_of_a_request() {
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
        let made = steps_done(&output);
        assert_eq!(wait(&mut child, Duration::from_mins(2)), Some(75));
        let step = Status::read(&output).unwrap().step;
        assert!((made..=made + 2).contains(&step), "{name}: left after step {step}, asked after {made}");
        let saved = output.join("checkpoints").join(layout::checkpoint(step));
        assert!(saved.is_dir(), "{} is missing", saved.display());
    }
}

/// Whoever starts a rank may hold signals back for reasons of its own, and that is inherited.
#[test]
fn a_request_is_heard_though_the_signal_was_blocked_by_whoever_started_the_rank() {
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
fn hears(pid: &str, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal - 1) & 1 == 1)
}

/// MPI starts when all ranks are there: rank 0 waits for rank 1, which waits for this test.
#[test]
fn a_request_that_comes_while_mpi_starts_is_heard() {
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
    while !hears(&rank(), USR2) {
        assert!(start.elapsed() < Duration::from_mins(1), "rank 0 hears requests before MPI has started");
        std::thread::sleep(Duration::from_millis(10));
    }
    signal("USR2", &rank());
    std::fs::write(go, "").unwrap();
    assert_eq!(wait(&mut child, Duration::from_mins(2)), Some(75));
    let status = Status::read(&output).unwrap();
    // On a busy machine what comes before the first step takes longer than the request waits.
    assert!(status.phase == Phase::Preempted && status.step <= 1, "{status:?}");
}
