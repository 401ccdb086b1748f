//! Runs on cores that other programs use.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Child, Command};
use std::time::Duration;
use tests::launched::{code, signal, wait_for};
use tests::{run, stderr, trainer};

/// Processes that use all cores until they are dropped.
struct BusyProcesses(Vec<Child>);

impl BusyProcesses {
    fn start(count: usize) -> Self {
        let busy = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Self((0..count).map(busy).collect())
    }
}

impl Drop for BusyProcesses {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_run_warns_that_its_cores_are_not_free() {
    let folder = tempfile::tempdir().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    let _busy = BusyProcesses::start(2 * cores);
    let mut command = trainer(1);
    command.arg("train").arg("--output").arg(folder.path().join("run"));
    for setting in ["train.epochs=1000", "train.batch_size=16", "train.threads=1"] {
        command.args(["--set", setting]);
    }
    let messages = folder.path().join("log");
    let mut child = command.stderr(std::fs::File::create(&messages).unwrap()).spawn().unwrap();
    let warnings =
        || std::fs::read_to_string(&messages).unwrap().matches("the cores of this rank are not free").count();
    wait_for("the warning", Duration::from_mins(1), || warnings() > 0);
    signal("TERM", &child.id().to_string());
    assert_eq!(code(&mut child, Duration::from_mins(1)), Some(75));
    assert_eq!(warnings(), 1, "{}", std::fs::read_to_string(&messages).unwrap());
}

/// The spin count that GNU OpenMP prints when it is loaded.
fn spin(setting: Option<(&str, &str)>) -> String {
    let mut command = trainer(1);
    // A run that is refused before it starts.
    command.args(["train", "--set", "train.epochs=x"]).env("OMP_DISPLAY_ENV", "verbose");
    for name in ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"] {
        command.env_remove(name);
    }
    if let Some((name, value)) = setting {
        command.env(name, value);
    }
    let messages = stderr(&run(&mut command));
    let last = messages.lines().rfind(|line| line.contains("GOMP_SPINCOUNT")).unwrap_or_default();
    last.rsplit('=').next().unwrap_or_default().trim().to_owned()
}

#[test]
fn waiting_threads_spin_briefly_unless_the_user_configures_it() {
    assert_eq!(spin(None), "'10000'");
    assert_eq!(spin(Some(("GOMP_SPINCOUNT", "77"))), "'77'");
    assert_eq!(spin(Some(("OMP_WAIT_POLICY", "passive"))), "'0'");
}
