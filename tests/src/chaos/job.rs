//! One start of the trainer on some ranks.

use super::process::{self, ChaosProcess};
use crate::stripes::StripedDataSet;
use crate::{checkpoints, steps_done};
use nix::sys::signal::Signal;
use protocol::{Phase, Status, layout};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// Steps of a whole run.
pub const STEPS: u64 = 40;

/// The determinism of a run, the same for all its starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobDeterminism {
    /// Bitwise equal on any number of ranks.
    AnyWorld,
    /// Bitwise equal on two ranks.
    TwoRanks,
}

/// The launcher of the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// A single rank starts directly.
    Nobody,
    /// `mpirun`.
    Mpirun,
    /// `lift run`.
    Lift,
}

/// The parameters of a start.
#[derive(Debug)]
pub struct JobStart<'a> {
    /// The trainer.
    pub program: &'a Path,
    /// The run folder.
    pub run: &'a Path,
    /// Folder for its output and its temporary files.
    pub scratch: &'a Path,
    /// The images.
    pub data: &'a StripedDataSet,
    /// Its determinism.
    pub determinism: JobDeterminism,
    /// Number of ranks.
    pub ranks: usize,
    /// The launcher of the ranks.
    pub launcher: Launcher,
    /// The step of the newest intact checkpoint.
    pub newest: Option<u64>,
    /// `distributed.timeout_seconds`.
    pub timeout: u64,
    /// Additional environment variables.
    pub environment: Vec<(&'a str, String)>,
    /// Number of this start.
    pub number: usize,
}

/// A running start.
#[derive(Debug)]
pub struct ChaosJob {
    child: Child,
    run: PathBuf,
    log: PathBuf,
    /// Time of the start.
    pub started: Instant,
    since: SystemTime,
    /// Number of ranks.
    pub ranks: usize,
    /// The launcher of the ranks.
    pub launcher: Launcher,
    /// The step of the newest checkpoint that was intact before the start.
    pub newest: Option<u64>,
    skipped_newest: bool,
    pid_before: Option<u32>,
    known: Vec<ChaosProcess>,
    first_step: Option<Duration>,
    ended: Option<ExitStatus>,
}

impl JobStart<'_> {
    /// Starts the processes.
    pub fn spawn(&self) -> io::Result<ChaosJob> {
        let mut command = self.command();
        command.args(["train", "-d", "demo", "-m", "demo", "--resume", "auto", "--quiet"]);
        for setting in self.settings() {
            command.args(["--set", &setting]);
        }
        command.arg("--output").arg(self.run);
        command.env("NO_COLOR", "1").env_remove("LIFT_CONFIGS").env_remove("LIFT_LOG");
        let log = self.scratch.join(format!("start-{}.log", self.number));
        let out = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let pid_before = Status::read(self.run).ok().map(|status| status.pid);
        let (started, since) = (Instant::now(), SystemTime::now());
        Ok(ChaosJob {
            child: command.spawn()?,
            run: self.run.to_path_buf(),
            log,
            started,
            since,
            ranks: self.ranks,
            launcher: self.launcher,
            newest: self.newest,
            skipped_newest: false,
            pid_before,
            known: Vec::new(),
            first_step: None,
            ended: None,
        })
    }

    /// The command. Open MPI's temporary files, which killed ranks leave behind, go to the scratch folder.
    fn command(&self) -> Command {
        let mut command = match self.launcher {
            Launcher::Nobody => Command::new(self.program),
            Launcher::Mpirun => crate::mpirun(self.ranks),
            Launcher::Lift => Command::new(crate::binary("lift")),
        };
        match self.launcher {
            Launcher::Nobody => {}
            Launcher::Mpirun => {
                command.arg(self.program);
            }
            Launcher::Lift => {
                command.args(["run", "-n", &self.ranks.to_string(), "--"]).env("LIFT_TRAINER", self.program);
            }
        }
        command.env("TMPDIR", self.scratch).env("OMPI_MCA_btl_vader_backing_directory", self.scratch);
        command
    }

    fn settings(&self) -> Vec<String> {
        let determinism = match self.determinism {
            JobDeterminism::AnyWorld => &["train.determinism=any_world", "train.virtual_shards=4"][..],
            JobDeterminism::TwoRanks => &["train.determinism=same_world"][..],
        };
        let fixed = [
            "train.epochs=5",
            "train.batch_size=12",
            "train.threads=1",
            "eval.batch_size=8",
            "eval.every_epochs=1",
            "checkpoint.every_steps=2",
            "checkpoint.keep=3",
            "checkpoint.best=accuracy",
            // A temporarily full disk must not end a run.
            "checkpoint.max_failures=100",
        ];
        let mut settings: Vec<String> =
            fixed.iter().chain(determinism).map(|&setting| setting.to_owned()).collect();
        settings.push(format!("distributed.timeout_seconds={}", self.timeout));
        settings.extend(self.data.settings());
        settings
    }
}

impl ChaosJob {
    /// Whether it still runs. Also records the first new checkpoint, and whether the run skipped the newest intact one.
    pub fn runs(&mut self) -> bool {
        self.check_skipped_newest();
        if self.first_step.is_none() && self.started.elapsed() > Duration::from_millis(300) {
            self.record_first_step();
        }
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_none()
    }

    /// Exit status of `mpirun`, `lift` or the single rank.
    pub fn exit(&self) -> Option<ExitStatus> {
        self.ended
    }

    /// The status, once this start has written one.
    pub fn status(&self) -> Option<Status> {
        Status::read(&self.run).ok().filter(|status| Some(status.pid) != self.pid_before)
    }

    /// Steps in the metrics, after this start has truncated them to the checkpoint from which it resumes.
    pub fn steps(&self) -> Option<u64> {
        self.status()?;
        Some(steps_done(&self.run))
    }

    /// Time from the start to the first new checkpoint.
    pub fn first_step(&self) -> Option<Duration> {
        self.first_step
    }

    /// Whether it skipped the newest intact checkpoint, and resumed from an older one or from none.
    pub const fn has_skipped_newest(&self) -> bool {
        self.skipped_newest
    }

    /// Records whether the start skips the newest intact checkpoint: before its first step, a start removes all
    /// checkpoints that are newer than the one from which it resumes.
    fn check_skipped_newest(&mut self) {
        let Some(newest) = self.newest else { return };
        let in_init = |job: &Self| job.status().is_some_and(|status| status.phase == Phase::Init);
        if self.skipped_newest || self.ended.is_some() || !in_init(self) {
            return;
        }
        let checkpoint = self.run.join(layout::CHECKPOINTS).join(layout::checkpoint(newest));
        let exists = written(&checkpoint).is_some_and(|time| time < self.since);
        // Later, the newest checkpoint may be removed because of others, and on a full disk the status does not change.
        let others = checkpoints(&self.run).last().is_some_and(|(_, step)| *step > newest);
        self.skipped_newest = !exists && !others && in_init(self);
    }

    fn record_first_step(&mut self) {
        // The line of a step is written with the next checkpoint, so the folder of the checkpoint appears first.
        let newest = checkpoints(&self.run).pop();
        if newest.and_then(|(path, _)| written(&path)).is_some_and(|time| time > self.since) {
            self.first_step = Some(self.started.elapsed());
        }
    }

    /// The launcher and the ranks that have started.
    pub fn processes(&mut self) -> &[ChaosProcess] {
        let launcher = (self.launcher != Launcher::Nobody).then_some(self.child.id());
        let complete = self.known.iter().filter(|process| process.rank.is_some()).count() == self.ranks;
        if !complete {
            self.known = process::of_run(&self.run, launcher);
        }
        &self.known
    }

    /// Whether `path` was written by this start.
    pub fn wrote(&self, path: &Path) -> bool {
        fs::metadata(path).and_then(|file| file.modified()).is_ok_and(|time| time >= self.since)
    }

    /// The run folder.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Its output.
    pub fn output(&self) -> String {
        let output = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&output).into_owned()
    }

    /// Waits for the end of the launcher and of all ranks, at most for `limit`.
    pub fn wait(&mut self, limit: Duration) -> Waited {
        let start = Instant::now();
        while self.runs() {
            if start.elapsed() > limit {
                return Waited::Hangs;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        while !process::of_run(&self.run, None).is_empty() {
            if start.elapsed() > limit {
                return Waited::Left;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Waited::Ended(start.elapsed())
    }

    /// Kills all its processes.
    pub fn destroy(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for _ in 0..50 {
            let left = process::of_run(&self.run, None);
            if left.is_empty() {
                break;
            }
            process::send(&left, Signal::SIGKILL);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for ChaosJob {
    fn drop(&mut self) {
        if self.runs() {
            self.destroy();
        }
    }
}

/// The outcome of a wait for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// All processes have ended, after this time.
    Ended(Duration),
    /// The launcher, or the single rank, still runs.
    Hangs,
    /// The launcher has ended, but ranks still run.
    Left,
}

/// Time at which a checkpoint was written.
pub fn written(checkpoint: &Path) -> Option<SystemTime> {
    fs::metadata(checkpoint.join("manifest.json")).and_then(|file| file.modified()).ok()
}
