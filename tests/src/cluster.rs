//! Slurm for tests: a temporary cluster on this machine, and fake Slurm programs for tests without a cluster.

use crate::launched::{lift, ranks, repository, training, wait_for};
use crate::{binary, succeed, trainer};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Set inside a cluster.
const INSIDE: &str = "LIFT_TEST_INSIDE_SLURM";
/// Exit code of `with-slurm.sh` if it cannot run on this machine.
const CANNOT_RUN: i32 = 71;

/// A test that runs inside a cluster. It begins with `let Some(bench) = ClusterBench::enter(...) else { return };`.
#[derive(Debug)]
pub struct ClusterBench {
    folder: tempfile::TempDir,
}

impl ClusterBench {
    /// Inside a cluster, returns the bench. Outside, runs this test again inside a cluster with these options of
    /// `with-slurm.sh` and returns `None`; prints a line if that is not possible.
    pub fn enter(test: &str, options: &[&str]) -> Option<Self> {
        if std::env::var_os(INSIDE).is_some() {
            return Some(Self::new());
        }
        let mut command = Command::new(repository().join("tests/slurm/with-slurm.sh"));
        command.args(options).arg("--").arg(std::env::current_exe().expect("a test knows its own path"));
        command
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(INSIDE, "1")
            .stdin(Stdio::null());
        // The test inside decides this test. Its output is not forwarded, because its line of counts would be counted.
        let output = command.output().expect("bash runs");
        let output_text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.code() == Some(CANNOT_RUN) {
            eprintln!("skipped: {test} ({})", output_text.trim());
            return None;
        }
        assert!(
            output.status.success() && output_text.contains("1 passed"),
            "inside the cluster:\n{output_text}"
        );
        output_text.lines().filter(|line| line.starts_with("round ")).for_each(|line| eprintln!("{line}"));
        None
    }

    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::os::unix::fs::symlink(repository().join("slurm"), folder.path().join("slurm"))
            .expect("a link can be made");
        Self { folder }
    }

    /// A path in the folder from which jobs are submitted.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command in the submit folder.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env("NO_COLOR", "1");
        command.env("LIFT_TRAINER", binary("lift-trainer")).env("OMPI_MCA_mpi_yield_when_idle", "1");
        command.env("XDG_STATE_HOME", self.path("state")).env_remove(INSIDE);
        command
    }

    /// Trains on four ranks without Slurm; returns the run folder.
    pub fn train(&self, output: &str, steps: u64) -> PathBuf {
        succeed(trainer(4).args(training(output, steps)).current_dir(self.folder.path()));
        self.path(output)
    }

    /// Process ids of the ranks, by rank.
    pub fn ranks(&self) -> BTreeMap<usize, String> {
        ranks(self.folder.path())
    }

    /// Submits a job, and returns its id.
    pub fn sbatch(&self, set: impl FnOnce(&mut Command)) -> String {
        let mut command = self.command("sbatch");
        command.arg("--parsable");
        set(&mut command);
        let output = command.output().expect("sbatch runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Output of a command of Slurm or of the cluster.
    pub fn stdout_of(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output().expect("the program runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A field of `scontrol show job`.
    pub fn field(&self, job: &str, name: &str) -> String {
        let text = self.stdout_of("scontrol", &["show", "job", "--oneliner", job]);
        let found = text.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_default().to_owned()
    }

    /// Waits until a job has ended; returns its state and exit code.
    pub fn end(&self, job: &str, limit: Duration) -> (String, String) {
        wait_for(&format!("the end of job {job}"), limit, || {
            std::thread::sleep(Duration::from_millis(200));
            !["PENDING", "RUNNING", "COMPLETING", ""].contains(&self.field(job, "JobState").as_str())
        });
        (self.field(job, "JobState"), self.field(job, "ExitCode"))
    }

    /// Output of a job of `slurm/lift.sbatch`.
    pub fn output(&self, job: &str) -> String {
        std::fs::read_to_string(self.path(&format!("lift-{job}.out"))).unwrap_or_default()
    }

    /// Waits until a job has started for the `count`th time.
    pub fn wait_for_start(&self, job: &str, count: usize, limit: Duration) {
        wait_for(&format!("start {} of job {job}", count - 1), limit, || {
            std::thread::sleep(Duration::from_millis(200));
            self.output(job).contains(&format!("lift: start {} of job {job}", count - 1))
        });
    }
}

/// The fake Slurm programs of `tests/fakes/slurm.sh`: they answer from files that a test writes, and start one local
/// rank.
#[derive(Debug)]
pub struct FakeSlurm {
    folder: tempfile::TempDir,
}

impl FakeSlurm {
    /// Fake programs without any job.
    #[allow(clippy::new_without_default, reason = "it creates files")]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::create_dir(folder.path().join("bin")).expect("a folder can be made");
        for program in ["sacct", "sbatch", "scancel", "scontrol", "squeue", "srun"] {
            let link = folder.path().join("bin").join(program);
            std::os::unix::fs::symlink(repository().join("tests/fakes/slurm.sh"), link)
                .expect("a link can be made");
        }
        Self { folder }
    }

    /// A path in the folder from which jobs are submitted.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets the states that Slurm reports for a job: one, or one per record of an array.
    pub fn set_states(&self, job: &str, states: &[&str]) {
        let lines: Vec<String> =
            states.iter().map(|state| format!("JobId={job} JobState={state} Restarts=0\n")).collect();
        std::fs::write(self.path(&format!("job-{job}")), lines.concat()).expect("a file can be written");
    }

    /// The commands of `scancel` and `scontrol requeue` so far.
    pub fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// `lift` with these programs and the fake trainer.
    pub fn lift(&self, arguments: &[&str]) -> Command {
        let mut command = lift();
        command.args(arguments).env("XDG_STATE_HOME", self.path("state"));
        self.set(command)
    }

    /// `lift job` as the batch script of job 17 calls it after `restarts` restarts.
    pub fn job(&self, restarts: u32, arguments: &[&str]) -> Command {
        let mut command = lift();
        command.args(["job", "--"]).args(arguments).env("SLURM_JOB_ID", "17");
        command.env("SLURM_RESTART_COUNT", restarts.to_string()).env("SLURM_SUBMIT_DIR", self.folder.path());
        self.set(command)
    }

    fn set(&self, mut command: Command) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        command.env("FAKE_SLURM", self.folder.path());
        command
    }
}
