//! Helpers for whole-system tests: binaries, ranks, shared data, results of runs.
//!
//! ```
//! use tests::draw::Draw;
//!
//! // Faults are drawn from a seed, so a failure can be repeated.
//! let draw = |seed| Draw::of_case(seed, 17).one_of(&["kill", "freeze", "full disk"]);
//! assert_eq!(draw(1), draw(1));
//! ```

pub mod chaos;
pub mod cluster;
pub mod cuda;
pub mod draw;
pub mod harness;
pub mod interrupts;
pub mod launched;
pub mod official;
pub mod pictures;
pub mod python;
pub mod stripes;
pub mod synthetic;

use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Timeout of any command in a test.
pub const TIMEOUT: Duration = Duration::from_mins(10);

/// The path of a binary of this build.
pub fn binary(name: &str) -> PathBuf {
    let path = build_file(name);
    assert!(path.exists(), "{} is missing: run `make build` (or `make test`) first", path.display());
    path
}

/// The path of a file of this build, which may not exist: in the folder of this program, or in the parent folder of a
/// test.
pub fn build_file(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its own path");
    let folder = own.parent().expect("programs lie in PROFILE, tests in PROFILE/deps");
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.join(name)
}

/// The folder of shared data: from an environment variable, or beside the repository. If it does not exist, prints that
/// the test is skipped and returns `None`.
pub fn shared(test: &str, variable: &str, folder: &str) -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(folder);
    let path = std::env::var_os(variable).map_or(default, PathBuf::from);
    if path.is_dir() {
        return Some(path.canonicalize().unwrap_or(path));
    }
    eprintln!("skipped: {test} ({variable} not found at {})", path.display());
    None
}

/// `lift-trainer` on `ranks` ranks: directly for one, under mpirun for more.
pub fn trainer(ranks: usize) -> Command {
    trainer_command("lift-trainer", ranks)
}

/// Any trainer of this build on `ranks` ranks.
pub fn trainer_command(program: &str, ranks: usize) -> Command {
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

/// `mpirun` for ranks on this machine, also as root and with more ranks than cores.
pub fn mpirun(ranks: usize) -> Command {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.mpi/bin/mpirun");
    let mut command = Command::new(if bundled.exists() { bundled } else { PathBuf::from("mpirun") });
    command.args(["--oversubscribe", "-n", &ranks.to_string()]);
    for variable in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
        command.env(variable, "1").env(variable.replace("OMPI", "PRTE"), "1");
    }
    command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    // Tests run in parallel, so waiting ranks yield the cores.
    command.env("OMPI_MCA_mpi_yield_when_idle", "1");
    command
}

/// Runs a command to its end. After `TIMEOUT`, kills it and fails the test.
pub fn run(command: &mut Command) -> Output {
    let output = run_within(command, TIMEOUT).expect("the command starts");
    output.unwrap_or_else(|| panic!("{command:?} did not end within {TIMEOUT:?}"))
}

/// Runs a command to its end. After `limit`, kills it and returns `None`.
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

/// Runs a command that must succeed.
pub fn succeed(command: &mut Command) -> Output {
    let output = run(command);
    assert!(output.status.success(), "{command:?} ended with {}\n{}", output.status, stderr(&output));
    output
}

/// Standard error of a command, as text.
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

/// Number of steps in the metrics so far. The writer buffers lines for a short time.
pub fn steps_done(run: &Path) -> u64 {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    text.matches("\"kind\":\"step\"").count() as u64
}

/// The existing checkpoints with their steps, in ascending order.
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

/// Asserts that each loss is within the relative tolerance of the expected one.
pub fn within(found: &[f64], expected: &[f64], relative: f64) {
    assert_eq!(found.len(), expected.len(), "number of steps");
    for (step, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= relative * b.abs(), "loss of step {}: {a}, expected {b}", step + 1);
    }
}
