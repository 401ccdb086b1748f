//! What tests of the launcher share: `lift`, a trainer that only counts, waiting, and looking for what is left.

use crate::binary;
use launcher::protocol::Status;
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

/// `lift` with the trainer that only counts.
pub fn lift() -> Command {
    let mut command = Command::new(binary("lift"));
    command.env("LIFT_TRAINER", fake_trainer()).env("NO_COLOR", "1").stdin(Stdio::null());
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

/// What each start of a run was told: its number and the trainer's arguments.
pub fn starts(run: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(run.join("starts")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
