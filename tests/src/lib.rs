//! What whole-system tests share: the real binaries, real ranks, fresh folders, data where it is.

pub mod chaos;
pub mod cluster;
pub mod cuda;
pub mod draw;
pub mod interrupts;
pub mod launched;
pub mod official;
pub mod pictures;
pub mod stripes;
pub mod synthetic;

use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest time that any command of a test may take before it counts as hanging.
pub const TIMEOUT: Duration = Duration::from_mins(10);

/// A binary of this build: beside the test binary's own folder, or beside the program that asks.
pub fn binary(name: &str) -> PathBuf {
    let path = beside(name);
    assert!(path.exists(), "{} is missing: run `make build` (or `make test`) first", path.display());
    path
}

/// The same, whether it is there or not.
pub fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its own path");
    let folder = own.parent().expect("programs lie in PROFILE, tests in PROFILE/deps");
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.join(name)
}

/// Where shared data lies: a variable of the environment, or the folder beside the repository. `None`, said
/// aloud, where it is absent.
pub fn shared(test: &str, variable: &str, folder: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(folder);
    let path = std::env::var_os(variable).map_or(beside, PathBuf::from);
    if path.is_dir() {
        return Some(path.canonicalize().unwrap_or(path));
    }
    eprintln!("skipped: {test} ({variable} not found at {})", path.display());
    None
}

/// `lift-trainer` on `ranks` ranks: as it is for one, under mpirun for more. One thread a rank, since the
/// machines that run tests are small.
pub fn trainer(ranks: usize) -> Command {
    started("lift-trainer", ranks)
}

/// The same for any trainer of this build.
pub fn started(program: &str, ranks: usize) -> Command {
    let mut command = if ranks == 1 {
        Command::new(binary(program))
    } else {
        let mut command = mpirun(ranks);
        command.arg(binary(program));
        command
    };
    command.env("NO_COLOR", "1").env_remove("LIFT_CONFIGS").stdin(Stdio::null());
    command
}

/// `mpirun` for ranks on this machine, more than cores if need be, also as root.
pub fn mpirun(ranks: usize) -> Command {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.mpi/bin/mpirun");
    let mut command = Command::new(if beside.exists() { beside } else { PathBuf::from("mpirun") });
    command.args(["--oversubscribe", "-n", &ranks.to_string()]);
    for variable in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
        command.env(variable, "1").env(variable.replace("OMPI", "PRTE"), "1");
    }
    command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    // Tests run side by side: ranks that wait leave the cores to those that compute.
    command.env("OMPI_MCA_mpi_yield_when_idle", "1");
    command
}

/// Runs a command to its end; one that hangs is killed and fails the test.
pub fn run(command: &mut Command) -> Output {
    let output = run_within(command, TIMEOUT).expect("the command starts");
    output.unwrap_or_else(|| panic!("{command:?} did not end within {TIMEOUT:?}"))
}

/// Runs a command to its end; one that does not end within the limit is killed, and gives nothing.
pub fn run_within(command: &mut Command, limit: Duration) -> io::Result<Option<Output>> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let collect = |reader: std::thread::JoinHandle<Vec<u8>>| reader.join().unwrap_or_default();
    Ok(Some(Output { status, stdout: collect(stdout), stderr: collect(stderr) }))
}

fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Runs a command that has to succeed.
pub fn succeed(command: &mut Command) -> Output {
    let output = run(command);
    assert!(output.status.success(), "{command:?} ended with {}\n{}", output.status, stderr(&output));
    output
}

/// What a command said to people.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A JSON file of a run.
pub fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The lines of `metrics.jsonl` of one kind.
pub fn metrics(run: &Path, kind: &str) -> Vec<Value> {
    let path = run.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    rows.filter(|row| row["kind"] == kind).collect()
}

/// Steps whose lines are in the metrics by now. Where a step takes longer than the writer waits, that is all of them.
pub fn steps_done(run: &Path) -> u64 {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    text.matches("\"kind\":\"step\"").count() as u64
}

/// The checkpoints that are there, with their steps, in rising order.
pub fn checkpoints(run: &Path) -> Vec<(PathBuf, u64)> {
    let entries = std::fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    let mut found: Vec<(PathBuf, u64)> =
        entries.filter_map(|entry| Some((entry.path(), entry.file_name().to_str()?.parse().ok()?))).collect();
    found.sort_by_key(|&(_, step)| step);
    found
}

/// Losses of a run's steps.
pub fn losses(run: &Path) -> Vec<f64> {
    metrics(run, "step").iter().map(|row| row["loss"].as_f64().expect("a loss is a number")).collect()
}

/// Fails where a loss differs from the expected one by more than this share of it.
pub fn within(found: &[f64], expected: &[f64], relative: f64) {
    assert_eq!(found.len(), expected.len(), "number of steps");
    for (step, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= relative * b.abs(), "loss of step {}: {a}, expected {b}", step + 1);
    }
}
