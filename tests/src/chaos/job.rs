//! One start of the trainer on some ranks: started, watched, killed, and looked after when it is gone.

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

/// What a run computes, the same for all its starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobDeterminism {
    /// The same on any number of ranks.
    AnyWorld,
    /// The same on two ranks.
    TwoRanks,
}

/// Who starts the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// A single rank is started as it is.
    Nobody,
    /// `mpirun`.
    Mpirun,
    /// `lift run`.
    Lift,
}

/// A start that is to be.
#[derive(Debug)]
pub struct JobStart<'a> {
    /// The trainer.
    pub program: &'a Path,
    /// The run folder.
    pub run: &'a Path,
    /// Where what it says goes, and its temporary files.
    pub scratch: &'a Path,
    /// The images.
    pub data: &'a StripedDataSet,
    /// What it computes.
    pub determinism: JobDeterminism,
    /// Number of ranks.
    pub ranks: usize,
    /// Who starts them.
    pub launcher: Launcher,
    /// The step of the newest checkpoint that is whole.
    pub newest: Option<u64>,
    /// Seconds that a rank waits for another.
    pub timeout: u64,
    /// Variables for it.
    pub environment: Vec<(&'a str, String)>,
    /// Number of this start.
    pub number: usize,
}

/// A start under way.
#[derive(Debug)]
pub struct ChaosJob {
    child: Child,
    run: PathBuf,
    log: PathBuf,
    /// When it began.
    pub started: Instant,
    since: SystemTime,
    /// Number of ranks.
    pub ranks: usize,
    /// Who started them.
    pub launcher: Launcher,
    /// The step of the newest checkpoint that was whole before.
    pub newest: Option<u64>,
    went_past: bool,
    pid_before: Option<u32>,
    known: Vec<ChaosProcess>,
    first_step: Option<Duration>,
    ended: Option<ExitStatus>,
}

impl JobStart<'_> {
    /// Starts it.
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
            went_past: false,
            pid_before,
            known: Vec::new(),
            first_step: None,
            ended: None,
        })
    }

    /// What killed ranks leave of Open MPI's own files stays among this run's.
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
            // A disk that is full for a moment does not end a run.
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
    /// Whether it still runs; notes on the way the first new step, and where the run went on.
    pub fn runs(&mut self) -> bool {
        self.note_newest();
        if self.first_step.is_none() && self.started.elapsed() > Duration::from_millis(300) {
            self.note_first_step();
        }
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_none()
    }

    /// How `mpirun`, `lift` or the single rank ended.
    pub fn exit(&self) -> Option<ExitStatus> {
        self.ended
    }

    /// The status, once this start has written one.
    pub fn status(&self) -> Option<Status> {
        Status::read(&self.run).ok().filter(|status| Some(status.pid) != self.pid_before)
    }

    /// Steps in the metrics, once this start has cut them back to where it goes on.
    pub fn steps(&self) -> Option<u64> {
        self.status()?;
        Some(steps_done(&self.run))
    }

    /// Time from the start to the first step that was new.
    pub fn first_step(&self) -> Option<Duration> {
        self.first_step
    }

    /// Whether it left out the newest checkpoint that was whole, and went on from an older one or from none.
    pub const fn went_past_newest(&self) -> bool {
        self.went_past
    }

    /// Before its first step a start has removed what is newer than where it goes on.
    fn note_newest(&mut self) {
        let Some(newest) = self.newest else { return };
        let in_init = |job: &Self| job.status().is_some_and(|status| status.phase == Phase::Init);
        if self.went_past || self.ended.is_some() || !in_init(self) {
            return;
        }
        let checkpoint = self.run.join(layout::CHECKPOINTS).join(layout::checkpoint(newest));
        let is_there = written(&checkpoint).is_some_and(|time| time < self.since);
        // Later a checkpoint goes because there are others, and on a full disk the status stays what it was.
        let others = checkpoints(&self.run).last().is_some_and(|(_, step)| *step > newest);
        self.went_past = !is_there && !others && in_init(self);
    }

    fn note_first_step(&mut self) {
        // A step's line is written with the checkpoint that follows it; the checkpoint's folder says so first.
        let newest = checkpoints(&self.run).pop();
        if newest.and_then(|(path, _)| written(&path)).is_some_and(|time| time > self.since) {
            self.first_step = Some(self.started.elapsed());
        }
    }

    /// The launcher and the ranks that are there by now.
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

    /// What it said, and its ranks' logs.
    pub fn said(&self) -> String {
        let said = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Waits for the end, for `limit` from now at most, of the launcher and of all ranks.
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

    /// Ends everything of it by force.
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

/// How a wait for the end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Everything is gone, after this time.
    Ended(Duration),
    /// The launcher, or the single rank, still runs.
    Hangs,
    /// The launcher is gone, and ranks still run.
    Left,
}

/// When a checkpoint was written.
pub fn written(checkpoint: &Path) -> Option<SystemTime> {
    fs::metadata(checkpoint.join("manifest.json")).and_then(|file| file.modified()).ok()
}
