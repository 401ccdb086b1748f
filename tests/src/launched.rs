//! What tests of the launcher share: `lift`, a trainer that only counts, waiting, and looking for what is left.

use crate::{binary, checkpoints, metrics};
use protocol::Status;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A trainer that trains nothing and does as it is told by its environment.
pub fn fake_trainer() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fakes/trainer.sh")
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository is there")
}

/// `lift` with the trainer that only counts. It respects signals that are ignored where it is started, as for a command in
/// the background: here none are.
pub fn lift() -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP,INT,QUIT").arg(binary("lift"));
    command.env("LIFT_TRAINER", fake_trainer()).env("NO_COLOR", "1").stdin(Stdio::null());
    command.env("OMPI_MCA_mpi_yield_when_idle", "1");
    command
}

/// Waits until something is so; fails the test, by its name, if it does not come to be.
pub fn wait_for(what: &str, limit: Duration, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < limit, "{what} did not come to be within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a run has made steps.
pub fn wait_for_step(run: &Path, step: u64) {
    wait_for(&format!("step {step}"), Duration::from_mins(1), || {
        Status::read(run).is_ok_and(|status| status.step >= step)
    });
}

/// Waits until a run has a checkpoint of this step or a later one: known sooner than `status.json` tells.
pub fn wait_for_checkpoint(run: &Path, step: u64) {
    wait_for(&format!("a checkpoint after step {step}"), Duration::from_mins(1), || {
        checkpoints(run).last().is_some_and(|(_, last)| *last >= step)
    });
}

/// The arguments of a short training on what is built in, whose result is the same however often it is interrupted.
pub fn training(output: &str, steps: u64) -> Vec<String> {
    let mut words = vec!["train".to_owned(), "--output".to_owned(), output.to_owned()];
    words.extend(["-d", "demo", "-m", "demo"].map(str::to_owned));
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
        words.extend(["--set".to_owned(), setting.to_owned()]);
    }
    words
}

/// Fails the test unless two runs made the same steps, each once, with the same losses, and ended with the same values.
pub fn assert_same_result(expected: &Path, run: &Path) {
    assert_eq!(steps(expected), steps(run), "{}", run.display());
    let weights =
        |run: &Path| std::fs::read(run.join("final.safetensors")).expect("a finished run has weights");
    assert!(weights(expected) == weights(run), "{}: other values", run.display());
}

/// What the metrics say of each step that does not depend on time: number, loss, learning rate, samples.
pub fn steps(run: &Path) -> Vec<[String; 4]> {
    let rows = metrics(run, "step");
    rows.iter()
        .map(|row| ["step", "loss", "learning_rate", "samples"].map(|key| row[key].to_string()))
        .collect()
}

/// The exit code of a command that ends within the limit.
pub fn code(child: &mut Child, limit: Duration) -> Option<i32> {
    let mut status = None;
    wait_for("the end of the command", limit, || {
        status = child.try_wait().expect("the command can be waited for");
        status.is_some()
    });
    status.and_then(|status| status.code())
}

/// Sends a signal to one process, or with a minus to a group.
pub fn signal(name: &str, to: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), "--", to]).status().expect("kill runs");
    assert!(status.success(), "kill -{name} {to}");
}

/// Command lines of the processes that name this folder and are not this test.
pub fn processes_of(folder: &Path) -> Vec<String> {
    let marker = folder.display().to_string();
    let output = Command::new("pgrep").args(["-a", "-f", &marker]).output().expect("pgrep runs");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// The processes of ranks of the real trainer that were started in this folder or are told of it, by number of the
/// rank.
pub fn ranks(folder: &Path) -> BTreeMap<usize, String> {
    let pids = Command::new("pgrep").args(["-x", "lift-trainer"]).output().expect("pgrep runs");
    let rank = |pid: &str| {
        let process = Path::new("/proc").join(pid);
        let variables = std::fs::read(process.join("environ")).ok()?;
        let mut variables = variables.split(|&byte| byte == 0);
        let number = variables.find_map(|variable| variable.strip_prefix(b"PMIX_RANK="))?;
        let started_here = std::fs::read_link(process.join("cwd")).ok()? == folder;
        let arguments = std::fs::read(process.join("cmdline")).ok()?;
        let is_told = arguments.split(|&byte| byte == 0).any(|word| word == folder.as_os_str().as_bytes());
        (started_here || is_told).then(|| String::from_utf8_lossy(number).parse().ok()).flatten()
    };
    let pids = String::from_utf8_lossy(&pids.stdout).into_owned();
    pids.lines().filter_map(|pid| Some((rank(pid)?, pid.to_owned()))).collect()
}

/// What each start of a run was told: its number and the trainer's arguments.
pub fn starts(run: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(run.join("starts")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
