//! Helpers for tests of the launcher: `lift` with a fake trainer, waiting, and searching for remaining processes.

use crate::{binary, checkpoints, metrics};
use protocol::Status;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A fake trainer that only counts steps; environment variables control it.
pub fn fake_trainer() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fakes/trainer.sh")
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository exists")
}

/// `lift` with the fake trainer. `lift` inherits ignored signals, as background commands have them, so this resets
/// them.
pub fn lift() -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP,INT,QUIT").arg(binary("lift"));
    command.env("LIFT_TRAINER", fake_trainer()).env("NO_COLOR", "1").stdin(Stdio::null());
    command.env("OMPI_MCA_mpi_yield_when_idle", "1");
    command
}

/// Waits until `condition` holds; after `limit`, the test fails with the name `what`.
pub fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a run has reached a step.
pub fn wait_for_step(run: &Path, step: u64) {
    wait_for(&format!("step {step}"), Duration::from_mins(1), || {
        Status::read(run).is_ok_and(|status| status.step >= step)
    });
}

/// Waits until a run has a checkpoint of this step or a later one. It appears earlier than the step in `status.json`.
pub fn wait_for_checkpoint(run: &Path, step: u64) {
    wait_for(&format!("a checkpoint after step {step}"), Duration::from_mins(1), || {
        checkpoints(run).last().is_some_and(|(_, last)| *last >= step)
    });
}

/// Arguments of a short training on the embedded demo, whose result does not depend on interruptions.
pub fn training(output: &str, steps: u64) -> Vec<String> {
    let mut list = vec!["train".to_owned(), "--output".to_owned(), output.to_owned()];
    list.extend(["-d", "demo", "-m", "demo"].map(str::to_owned));
    let steps = format!("train.max_steps={steps}");
    for setting in [
        "train.determinism=same_world",
        "train.epochs=100",
        "train.batch_size=16",
        "train.threads=1",
        "checkpoint.every_steps=5",
        "distributed.timeout_seconds=8",
        &steps,
    ] {
        list.extend(["--set".to_owned(), setting.to_owned()]);
    }
    list
}

/// Asserts that two runs have the same steps, each once, with the same losses, and bitwise equal final weights.
pub fn assert_same_result(expected: &Path, run: &Path) {
    assert_eq!(steps(expected), steps(run), "{}", run.display());
    let weights =
        |run: &Path| std::fs::read(run.join("final.safetensors")).expect("a finished run has weights");
    assert!(weights(expected) == weights(run), "{}: other weights", run.display());
}

/// Number, loss, learning rate and samples of each step in the metrics.
pub fn steps(run: &Path) -> Vec<[String; 4]> {
    let rows = metrics(run, "step");
    rows.iter()
        .map(|row| ["step", "loss", "learning_rate", "samples"].map(|key| row[key].to_string()))
        .collect()
}

/// Waits for the end of a command, at most for `limit`; returns its exit code.
pub fn code(child: &mut Child, limit: Duration) -> Option<i32> {
    let mut status = None;
    wait_for("the end of the command", limit, || {
        status = child.try_wait().expect("the command can be waited for");
        status.is_some()
    });
    status.and_then(|status| status.code())
}

/// Sends a signal to a process, or to a process group with a minus sign.
pub fn signal(name: &str, to: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), "--", to]).status().expect("kill runs");
    assert!(status.success(), "kill -{name} {to}");
}

/// Command lines of the processes that contain this folder.
pub fn processes_of(folder: &Path) -> Vec<String> {
    let marker = folder.display().to_string();
    let output = Command::new("pgrep").args(["-a", "-f", &marker]).output().expect("pgrep runs");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Process ids by rank of the real trainer, started in this folder or with this folder as an argument.
pub fn ranks(folder: &Path) -> BTreeMap<usize, String> {
    let pids = Command::new("pgrep").args(["-x", "lift-trainer"]).output().expect("pgrep runs");
    let rank = |pid: &str| {
        let process = Path::new("/proc").join(pid);
        let variables = std::fs::read(process.join("environ")).ok()?;
        let mut variables = variables.split(|&byte| byte == 0);
        let number = variables.find_map(|variable| variable.strip_prefix(b"PMIX_RANK="))?;
        let started_here = std::fs::read_link(process.join("cwd")).ok()? == folder;
        let arguments = std::fs::read(process.join("cmdline")).ok()?;
        let is_argument =
            arguments.split(|&byte| byte == 0).any(|word| word == folder.as_os_str().as_bytes());
        (started_here || is_argument).then(|| String::from_utf8_lossy(number).parse().ok()).flatten()
    };
    let pids = String::from_utf8_lossy(&pids.stdout).into_owned();
    pids.lines().filter_map(|pid| Some((rank(pid)?, pid.to_owned()))).collect()
}

/// The starts of a run: number and arguments of the trainer.
pub fn starts(run: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(run.join("starts")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
