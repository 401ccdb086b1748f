//! Cores that other programs take.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Child, Command};
use std::time::Duration;
use tests::launched::{code, signal, wait_for};
use tests::{run, stderr, trainer};

/// Programs that take every core they get, until they are dropped.
struct Neighbours(Vec<Child>);

impl Neighbours {
    fn start(count: usize) -> Self {
        let busy = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Self((0..count).map(busy).collect())
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_run_says_that_its_cores_are_not_free() {
    let folder = tempfile::tempdir().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    let _neighbours = Neighbours::start(2 * cores);
    let mut command = trainer(1);
    command.arg("train").arg("--output").arg(folder.path().join("run"));
    for setting in ["train.epochs=1000", "train.batch_size=16", "train.threads=1"] {
        command.args(["--set", setting]);
    }
    let said = folder.path().join("said");
    let mut child = command.stderr(std::fs::File::create(&said).unwrap()).spawn().unwrap();
    let told =
        || std::fs::read_to_string(&said).unwrap().matches("the cores of this rank are not free").count();
    wait_for("the warning", Duration::from_mins(1), || told() > 0);
    signal("TERM", &child.id().to_string());
    assert_eq!(code(&mut child, Duration::from_mins(1)), Some(75));
    assert_eq!(told(), 1, "{}", std::fs::read_to_string(&said).unwrap());
}

/// GNU OpenMP shows what it read when it was loaded.
fn spin(setting: Option<(&str, &str)>) -> String {
    let mut command = trainer(1);
    // A run that is refused before it begins.
    command.args(["train", "--set", "train.epochs=x"]).env("OMP_DISPLAY_ENV", "verbose");
    for name in ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"] {
        command.env_remove(name);
    }
    if let Some((name, value)) = setting {
        command.env(name, value);
    }
    let said = stderr(&run(&mut command));
    let last = said.lines().rfind(|line| line.contains("GOMP_SPINCOUNT")).unwrap_or_default();
    last.rsplit('=').next().unwrap_or_default().trim().to_owned()
}

#[test]
fn waiting_threads_spin_for_a_short_time_unless_the_user_says_otherwise() {
    assert_eq!(spin(None), "'10000'");
    assert_eq!(spin(Some(("GOMP_SPINCOUNT", "77"))), "'77'");
    assert_eq!(spin(Some(("OMP_WAIT_POLICY", "passive"))), "'0'");
}
