//! One run with its faults, from the first start to the comparison with an undisturbed run.

use super::compare::Expected;
use super::disk::SmallDisk;
use super::fault::{ChaosFault, ChaosFaultKind, SHORT_TIMEOUT};
use super::job::{ChaosJob, JobStart, Launcher, STEPS, Waited, written};
use super::moment::{self, At};
use super::plan::{ChaosEvent, ChaosPlan, ChaosWorld};
use super::process;
use super::shared_inputs::{LONG_TIMEOUT, SharedInputs, TIMEOUT};
use super::tally::FaultTally;
use crate::checkpoints;
use crate::stripes::StripedDataSet;
use protocol::{Outcome, Phase, Status, layout};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// Maximum number of starts without a fault in which a run must finish.
const LAST_STARTS: usize = 2;

/// The expected cause for the end of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing: it must succeed.
    Nothing,
    /// A fault.
    Fault(ChaosFaultKind),
    /// A change of its files or its environment; the caller checks the end.
    Files,
}

/// A run in progress.
#[derive(Debug)]
pub struct ChaosCase<'a> {
    pub(super) shared: &'a SharedInputs,
    pub(super) plan: &'a ChaosPlan,
    pub(super) folder: PathBuf,
    pub(super) run: PathBuf,
    pub(super) data: StripedDataSet,
    pub(super) disk: Option<SmallDisk>,
    pub(super) job: Option<ChaosJob>,
    pub(super) tally: FaultTally,
    /// Steps and times of damaged checkpoints; a checkpoint that was written later is intact.
    pub(super) damaged: BTreeMap<u64, SystemTime>,
    /// Time of the last kill since the last start.
    killed: Option<Instant>,
    /// Time of the last kill before the current start.
    killed_before: Option<Instant>,
    short_timeout: bool,
    starts: usize,
}

impl<'a> ChaosCase<'a> {
    /// Prepares the folder of a run.
    pub fn prepare(shared: &'a SharedInputs, plan: &'a ChaosPlan, number: u64) -> io::Result<Self> {
        let folder = shared.folder.join(format!("case-{number}"));
        fs::create_dir_all(&folder)?;
        let own_disk = plan.any(|fault| matches!(fault, ChaosFault::FullDisk(_)));
        let disk = own_disk.then(|| SmallDisk::mount(&folder.join("disk"))).transpose()?;
        let own_data = plan.any(|fault| matches!(fault, ChaosFault::LostFile(_)));
        let data = if own_data { shared.data.link(&folder.join("images"))? } else { shared.data.clone() };
        let run = if own_disk { folder.join("disk/run") } else { folder.join("run") };
        Ok(Self {
            shared,
            plan,
            folder,
            run,
            data,
            disk,
            job: None,
            tally: FaultTally::default(),
            damaged: BTreeMap::new(),
            killed: None,
            killed_before: None,
            short_timeout: false,
            starts: 0,
        })
    }

    /// Runs the plan, and compares the result.
    pub fn run(mut self) -> (FaultTally, PathBuf) {
        if let Err(error) = self.disturb().and_then(|()| self.finish()) {
            self.problem(&format!("the harness itself failed: {error}"));
        }
        if let Some(mut job) = self.job.take() {
            job.destroy();
        }
        self.tally.cases = 1;
        (std::mem::take(&mut self.tally), self.folder.clone())
    }

    fn disturb(&mut self) -> io::Result<()> {
        let plan = self.plan;
        for event in &plan.events {
            if !self.tally.is_sound() {
                break;
            }
            if self.job.is_none() && self.run.join(layout::RESULT).exists() {
                self.tally.record_fault(event.fault.kind(event.world.launcher), At::Gone);
            } else {
                self.inject_event(event)?;
            }
        }
        Ok(())
    }

    fn inject_event(&mut self, event: &ChaosEvent) -> io::Result<()> {
        let call = matches!(event.fault, ChaosFault::Call(_));
        let short_timeout = matches!(event.fault, ChaosFault::Freeze(_));
        let alone = self.job.as_ref().is_some_and(|job| job.launcher == Launcher::Nobody);
        let needs_launcher = matches!(event.fault, ChaosFault::KillLauncher) && alone;
        if call || short_timeout != self.short_timeout || needs_launcher {
            self.kill_job();
        }
        if call {
            return self.inject_call(event);
        }
        self.short_timeout = short_timeout;
        if self.job.is_none() {
            self.job = Some(self.start(event.world, Vec::new())?);
        }
        let Some(job) = &mut self.job else { return Ok(()) };
        let reached = event.moment.wait(job, TIMEOUT);
        let at = if reached { moment::now(job) } else { At::Gone };
        if at == At::Gone {
            self.tally.record_fault(event.fault.kind(job.launcher), at);
            return self.wait_and_check(Cause::Nothing);
        }
        self.inject(&event.fault, at)
    }

    /// Counts a fault, which hit the run or came too late.
    pub(super) fn count_fault(&mut self, kind: ChaosFaultKind, at: At, hit: bool) {
        self.tally.record_fault(kind, if hit { at } else { At::Gone });
        if hit && kind.limit().is_some() && kind != ChaosFaultKind::Freeze {
            self.killed = Some(Instant::now());
        }
    }

    /// Starts the run again.
    pub(super) fn start(
        &mut self,
        world: ChaosWorld,
        mut environment: Vec<(&str, String)>,
    ) -> io::Result<ChaosJob> {
        if crate::interrupts::is_interrupted() {
            return Err(io::Error::other("interrupted"));
        }
        let faulty = !environment.is_empty();
        // If listing checkpoints fails, the run may resume from an older one.
        let cannot_list = environment.iter().any(|(_, value)| value.starts_with("fail:list"));
        if let Some(bug) = &self.shared.planted {
            environment.push(("LIFT_PLANTED", bug.clone()));
        }
        let program = if faulty { self.shared.faulty.as_ref() } else { None };
        let start = JobStart {
            program: program.unwrap_or(&self.shared.program),
            run: &self.run,
            scratch: &self.folder,
            data: &self.data,
            determinism: self.plan.determinism,
            ranks: world.ranks,
            launcher: world.launcher,
            newest: self.newest_intact().filter(|_| !cannot_list),
            timeout: if self.short_timeout { SHORT_TIMEOUT } else { LONG_TIMEOUT },
            environment,
            number: self.starts,
        };
        self.starts += 1;
        self.tally.starts += 1;
        self.tally.resumes += u64::from(start.newest.is_some());
        self.killed_before = self.killed.take();
        start.spawn()
    }

    /// The step of the newest intact checkpoint.
    fn newest_intact(&self) -> Option<u64> {
        let is_intact = |(path, step): &(PathBuf, u64)| {
            self.damaged.get(step).is_none_or(|damaged| written(path).is_some_and(|time| time > *damaged))
        };
        checkpoints(&self.run).into_iter().filter(is_intact).map(|(_, step)| step).max()
    }

    /// Waits for the end of the job, and checks it.
    pub(super) fn wait_and_check(&mut self, cause: Cause) -> io::Result<()> {
        self.wait_for_end(cause).map(drop)
    }

    /// Like `wait_and_check`; returns the job, unless it had to be killed.
    pub(super) fn wait_for_end(&mut self, cause: Cause) -> io::Result<Option<ChaosJob>> {
        let Some(mut job) = self.job.take() else { return Ok(None) };
        let waited = job.wait(TIMEOUT);
        self.check_resume(&job);
        let by = match cause {
            Cause::Fault(kind) => kind.name(),
            Cause::Nothing | Cause::Files => "no fault",
        };
        match waited {
            Waited::Ended(after) => {
                if let Cause::Fault(kind) = cause
                    && let Some(limit) = kind.limit()
                {
                    self.tally.detected(kind, after);
                    if after > limit {
                        self.problem(&format!(
                            "the job ended {after:?} after {by}, expected at most {limit:?}"
                        ));
                    }
                }
                self.check_end(&job, cause);
                Ok(Some(job))
            }
            Waited::Hangs | Waited::Left => {
                let left = process::of_run(&self.run, None);
                let path = self.folder.join(format!("stacks-{}.txt", self.starts));
                fs::write(&path, process::stacks(&left))?;
                let hangs = waited == Waited::Hangs;
                *(if hangs { &mut self.tally.hangs } else { &mut self.tally.left }) += 1;
                let what = if hangs { "the job hangs" } else { "the launcher left ranks behind" };
                self.problem(&format!("{what} after {by}; stacks in {}", path.display()));
                job.destroy();
                Ok(None)
            }
        }
    }

    /// Checks from which checkpoint a start has resumed, and measures the time to its first checkpoint.
    fn check_resume(&mut self, job: &ChaosJob) {
        if job.has_skipped_newest() {
            let newest = job.newest.unwrap_or_default();
            self.problem(&format!("checkpoint {newest} is intact, but the run did not resume from it"));
        }
        if let (Some(killed), Some(first), Some(_)) = (self.killed_before, job.first_step(), job.newest) {
            self.tally.max_recovery =
                self.tally.max_recovery.max((job.started + first).duration_since(killed));
        }
    }

    /// Checks that exit code, status and result agree, and that only a fault has ended the job early.
    fn check_end(&mut self, job: &ChaosJob, cause: Cause) {
        let code = job.exit().and_then(|exit| exit.code());
        let phase = Status::read(&self.run).ok().map(|status| status.phase);
        // A start that ended before it wrote a status leaves that of an earlier start.
        let own = job.status().map(|status| status.phase);
        let is_finished = self.run.join(layout::RESULT).exists();
        // On a full disk, the status may not be written.
        let status_is_reliable = cause != Cause::Fault(ChaosFaultKind::FullDisk);
        let contradictory = match (code, phase) {
            (Some(0), _) if !is_finished => true,
            (Some(0), phase) => status_is_reliable && phase != Some(Phase::Done),
            (_, Some(Phase::Done)) => !is_finished,
            (Some(code), _) if code == i32::from(Outcome::PREEMPTED) => {
                status_is_reliable && own.is_some_and(|phase| phase != Phase::Preempted)
            }
            _ => false,
        };
        if contradictory {
            let output = last_output(job);
            self.problem(&format!(
                "the job ended with {:?}, its status is {phase:?}, its result is {}: {output}",
                job.exit(),
                if is_finished { "present" } else { "missing" }
            ));
        }
        if cause == Cause::Nothing && code != Some(0) {
            let output = last_output(job);
            self.problem(&format!("an undisturbed start ended with {:?}: {output}", job.exit()));
        }
    }

    /// Kills the current job without counting a fault.
    pub(super) fn kill_job(&mut self) {
        if let Some(mut job) = self.job.take() {
            let runs = job.runs();
            job.destroy();
            self.check_resume(&job);
            if !runs {
                self.check_end(&job, Cause::Nothing);
            }
        }
    }

    /// Runs to the end, and compares with the undisturbed run.
    fn finish(&mut self) -> io::Result<()> {
        let mut attempts = 0;
        if self.job.is_some() {
            self.wait_and_check(Cause::Nothing)?;
        }
        while self.tally.is_sound() && !self.is_done() {
            if attempts == LAST_STARTS {
                self.problem("the run does not finish");
                break;
            }
            attempts += 1;
            self.short_timeout = false;
            self.job = Some(self.start(self.plan.last, Vec::new())?);
            self.wait_and_check(Cause::Nothing)?;
        }
        if self.tally.is_sound() {
            self.compare();
        }
        Ok(())
    }

    /// Whether the run has a result and its status is `done`. A kill between the two leaves only the result; the next
    /// start then writes the status.
    fn is_done(&self) -> bool {
        let is_reported = Status::read(&self.run).is_ok_and(|status| status.phase == Phase::Done);
        self.run.join(layout::RESULT).exists() && is_reported
    }

    fn compare(&mut self) {
        // The missing checkpoint may be the one of the best evaluation.
        let fails = |fault: &ChaosFault| match fault {
            ChaosFault::FullDisk(_) => true,
            ChaosFault::Call(call) => call.starts_with("fail"),
            _ => false,
        };
        let with_best = !self.plan.any(fails);
        let differences = match Expected::of(&self.run) {
            Ok(found) => self.shared.expected(self.plan.determinism).compare(&found, with_best),
            Err(problem) => return self.problem(&problem),
        };
        let status = Status::read(&self.run).ok().map(|status| (status.phase, status.step));
        if status != Some((Phase::Done, STEPS)) {
            self.problem(&format!("the run is finished, but its status is {status:?}"));
        }
        self.tally.corrupt += u64::from(differences.corrupt);
        self.tally.lost += differences.lost;
        self.tally.repeated += differences.repeated;
        for message in differences.messages {
            self.problem(&message);
        }
        for process in process::of_run(&self.run, None) {
            self.tally.left += 1;
            self.problem(&format!("process {} still runs", process.pid));
        }
    }

    /// Waits until the output of the current job contains `what`; returns the time since its start.
    pub(super) fn wait_for_output(&mut self, what: &str, within: Duration) -> Option<Duration> {
        let job = self.job.as_mut()?;
        loop {
            let runs = job.runs();
            if job.output().contains(what) {
                return Some(job.started.elapsed());
            }
            if job.started.elapsed() > within || !runs {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Records a problem.
    pub(super) fn problem(&mut self, text: &str) {
        self.tally.problems.push(text.to_owned());
    }
}

/// The last lines of the output of a job.
pub(super) fn last_output(job: &ChaosJob) -> String {
    let output = job.output();
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join(" | ")
}
