//! One run with its faults, from its first start to the comparison with the undisturbed one.

use super::compare::Expected;
use super::disk::SmallDisk;
use super::fault::{ChaosFault, ChaosFaultKind, HURRIED};
use super::job::{ChaosJob, JobStart, Launcher, STEPS, Waited, written};
use super::moment::{self, At};
use super::plan::{ChaosEvent, ChaosPlan, ChaosWorld};
use super::process;
use super::tally::FaultTally;
use super::workshop::{TIMEOUT, UNHURRIED, Workshop};
use crate::checkpoints;
use crate::stripes::StripedDataSet;
use protocol::{Outcome, Phase, Status, layout};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// Starts without a fault that a run gets to come to its end.
const LAST_STARTS: usize = 2;

/// Why a start ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing disturbs it: it is to end well.
    Nothing,
    /// A fault.
    Fault(ChaosFaultKind),
    /// What was done to its files or its environment; whoever did it looks at the end.
    Files,
}

/// A run under way.
#[derive(Debug)]
pub struct ChaosCase<'a> {
    pub(super) shop: &'a Workshop,
    pub(super) plan: &'a ChaosPlan,
    pub(super) folder: PathBuf,
    pub(super) run: PathBuf,
    pub(super) data: StripedDataSet,
    pub(super) disk: Option<SmallDisk>,
    pub(super) job: Option<ChaosJob>,
    pub(super) tally: FaultTally,
    /// Checkpoints that are not whole any more, unless they were written anew since.
    pub(super) damaged: BTreeMap<u64, SystemTime>,
    /// When everything was killed, or a part of it; until the next start.
    killed: Option<Instant>,
    /// The same, for the start under way.
    killed_before: Option<Instant>,
    hurried: bool,
    starts: usize,
}

impl<'a> ChaosCase<'a> {
    /// Prepares the folder of a run.
    pub fn prepare(shop: &'a Workshop, plan: &'a ChaosPlan, number: u64) -> io::Result<Self> {
        let folder = shop.folder.join(format!("case-{number}"));
        fs::create_dir_all(&folder)?;
        let own_disk = plan.any(|fault| matches!(fault, ChaosFault::FullDisk(_)));
        let disk = own_disk.then(|| SmallDisk::mount(&folder.join("disk"))).transpose()?;
        let own_data = plan.any(|fault| matches!(fault, ChaosFault::LostFile(_)));
        let data = if own_data { shop.data.link(&folder.join("images"))? } else { shop.data.clone() };
        let run = if own_disk { folder.join("disk/run") } else { folder.join("run") };
        Ok(Self {
            shop,
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
            hurried: false,
            starts: 0,
        })
    }

    /// Plays the plan, and compares.
    pub fn play(mut self) -> (FaultTally, PathBuf) {
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
                self.tally.strike(event.fault.kind(event.world.launcher), At::Gone);
            } else {
                self.strike(event)?;
            }
        }
        Ok(())
    }

    fn strike(&mut self, event: &ChaosEvent) -> io::Result<()> {
        let call = matches!(event.fault, ChaosFault::Call(_));
        let hurried = matches!(event.fault, ChaosFault::Freeze(_));
        let alone = self.job.as_ref().is_some_and(|job| job.launcher == Launcher::Nobody);
        let needs_launcher = matches!(event.fault, ChaosFault::KillLauncher) && alone;
        if call || hurried != self.hurried || needs_launcher {
            self.set_aside();
        }
        if call {
            return self.strike_call(event);
        }
        self.hurried = hurried;
        if self.job.is_none() {
            self.job = Some(self.start(event.world, Vec::new())?);
        }
        let Some(job) = &mut self.job else { return Ok(()) };
        let there = event.moment.wait(job, TIMEOUT);
        let at = if there { moment::now(job) } else { At::Gone };
        if at == At::Gone {
            self.tally.strike(event.fault.kind(job.launcher), at);
            return self.see_to_its_end(Cause::Nothing);
        }
        self.inject(&event.fault, at)
    }

    /// Counts a fault: it met the run, or the run was gone by then.
    pub(super) fn book(&mut self, kind: ChaosFaultKind, at: At, met: bool) {
        self.tally.strike(kind, if met { at } else { At::Gone });
        if met && kind.limit().is_some() && kind != ChaosFaultKind::Freeze {
            self.killed = Some(Instant::now());
        }
    }

    /// Starts the run once more.
    pub(super) fn start(
        &mut self,
        world: ChaosWorld,
        mut environment: Vec<(&str, String)>,
    ) -> io::Result<ChaosJob> {
        if crate::interrupts::is_interrupted() {
            return Err(io::Error::other("interrupted"));
        }
        let faulty = !environment.is_empty();
        // Where checkpoints cannot be looked at, an older one may be taken.
        let blind = environment.iter().any(|(_, value)| value.starts_with("fail:list"));
        if let Some(bug) = &self.shop.planted {
            environment.push(("LIFT_PLANTED", bug.clone()));
        }
        let program = if faulty { self.shop.faulty.as_ref() } else { None };
        let start = JobStart {
            program: program.unwrap_or(&self.shop.program),
            run: &self.run,
            scratch: &self.folder,
            data: &self.data,
            determinism: self.plan.determinism,
            ranks: world.ranks,
            launcher: world.launcher,
            newest: self.newest_whole().filter(|_| !blind),
            timeout: if self.hurried { HURRIED } else { UNHURRIED },
            environment,
            number: self.starts,
        };
        self.starts += 1;
        self.tally.starts += 1;
        self.tally.resumes += u64::from(start.newest.is_some());
        self.killed_before = self.killed.take();
        start.spawn()
    }

    /// The step of the newest checkpoint that nobody has damaged.
    fn newest_whole(&self) -> Option<u64> {
        let is_whole = |(path, step): &(PathBuf, u64)| {
            self.damaged.get(step).is_none_or(|damaged| written(path).is_some_and(|time| time > *damaged))
        };
        checkpoints(&self.run).into_iter().filter(is_whole).map(|(_, step)| step).max()
    }

    /// Waits for the end of the job, and looks at how it ended.
    pub(super) fn see_to_its_end(&mut self, cause: Cause) -> io::Result<()> {
        self.wait_for_its_end(cause).map(drop)
    }

    /// The same; the job, unless it had to be ended by force.
    pub(super) fn wait_for_its_end(&mut self, cause: Cause) -> io::Result<Option<ChaosJob>> {
        let Some(mut job) = self.job.take() else { return Ok(None) };
        let waited = job.wait(TIMEOUT);
        self.look_at_its_beginning(&job);
        let by = match cause {
            Cause::Fault(kind) => kind.name(),
            Cause::Nothing | Cause::Files => "no fault",
        };
        match waited {
            Waited::Ended(after) => {
                if let Cause::Fault(kind) = cause
                    && let Some(limit) = kind.limit()
                {
                    self.tally.noticed(kind, after);
                    if after > limit {
                        self.problem(&format!("the job ended {after:?} after {by}; at most {limit:?}"));
                    }
                }
                self.look_at_its_end(&job, cause);
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

    /// Where it went on, and how soon.
    fn look_at_its_beginning(&mut self, job: &ChaosJob) {
        if job.went_past_newest() {
            let newest = job.newest.unwrap_or_default();
            self.problem(&format!("checkpoint {newest} is whole, and the run did not go on from it"));
        }
        if let (Some(killed), Some(first), Some(_)) = (self.killed_before, job.first_step(), job.newest) {
            self.tally.back = self.tally.back.max((job.started + first).duration_since(killed));
        }
    }

    /// Exit code, status and result must tell the same, and only a fault may end a job before its end.
    fn look_at_its_end(&mut self, job: &ChaosJob, cause: Cause) {
        let code = job.exit().and_then(|exit| exit.code());
        let phase = Status::read(&self.run).ok().map(|status| status.phase);
        // Of a start that ended before it had a status the file tells nothing.
        let own = job.status().map(|status| status.phase);
        let is_finished = self.run.join(layout::RESULT).exists();
        // A full disk may take no status.
        let can_tell = cause != Cause::Fault(ChaosFaultKind::FullDisk);
        let lies = match (code, phase) {
            (Some(0), _) if !is_finished => true,
            (Some(0), phase) => can_tell && phase != Some(Phase::Done),
            (_, Some(Phase::Done)) => !is_finished,
            (Some(code), _) if code == i32::from(Outcome::PREEMPTED) => {
                can_tell && own.is_some_and(|phase| phase != Phase::Preempted)
            }
            _ => false,
        };
        if lies {
            let words = last_log_lines(job);
            self.problem(&format!(
                "the job ended with {:?}, its status is {phase:?}, a result is {}: {words}",
                job.exit(),
                if is_finished { "there" } else { "not there" }
            ));
        }
        if cause == Cause::Nothing && code != Some(0) {
            let words = last_log_lines(job);
            self.problem(&format!("nothing disturbed a start that ended with {:?}: {words}", job.exit()));
        }
    }

    /// Ends what runs, without counting it as a fault.
    pub(super) fn set_aside(&mut self) {
        if let Some(mut job) = self.job.take() {
            let runs = job.runs();
            job.destroy();
            self.look_at_its_beginning(&job);
            if !runs {
                self.look_at_its_end(&job, Cause::Nothing);
            }
        }
    }

    /// Brings the run to its end, and compares it with the undisturbed one.
    fn finish(&mut self) -> io::Result<()> {
        let mut tries = 0;
        if self.job.is_some() {
            self.see_to_its_end(Cause::Nothing)?;
        }
        while self.tally.is_sound() && !self.is_done() {
            if tries == LAST_STARTS {
                self.problem("the run does not come to its end");
                break;
            }
            tries += 1;
            self.hurried = false;
            self.job = Some(self.start(self.plan.last, Vec::new())?);
            self.see_to_its_end(Cause::Nothing)?;
        }
        if self.tally.is_sound() {
            self.compare();
        }
        Ok(())
    }

    /// Whether there is a result, and the run has said so: it may be killed in between, and says it the next time.
    fn is_done(&self) -> bool {
        let says_so = Status::read(&self.run).is_ok_and(|status| status.phase == Phase::Done);
        self.run.join(layout::RESULT).exists() && says_so
    }

    fn compare(&mut self) {
        // The checkpoint of an evaluation may be the one that could not be written.
        let fails = |fault: &ChaosFault| match fault {
            ChaosFault::FullDisk(_) => true,
            ChaosFault::Call(call) => call.starts_with("fail"),
            _ => false,
        };
        let with_best = !self.plan.any(fails);
        let differences = match Expected::of(&self.run) {
            Ok(found) => self.shop.expected(self.plan.determinism).compare(&found, with_best),
            Err(problem) => return self.problem(&problem),
        };
        let status = Status::read(&self.run).ok().map(|status| (status.phase, status.step));
        if status != Some((Phase::Done, STEPS)) {
            self.problem(&format!("the run is finished, and its status is {status:?}"));
        }
        self.tally.corrupt += u64::from(differences.corrupt);
        self.tally.lost += differences.lost;
        self.tally.repeated += differences.repeated;
        for told in differences.told {
            self.problem(&told);
        }
        for process in process::of_run(&self.run, None) {
            self.tally.left += 1;
            self.problem(&format!("process {} is left", process.pid));
        }
    }

    /// Waits until the job that was started says something; gives how long after its start that was.
    pub(super) fn hear(&mut self, what: &str, within: Duration) -> Option<Duration> {
        let job = self.job.as_mut()?;
        loop {
            let runs = job.runs();
            if job.said().contains(what) {
                return Some(job.started.elapsed());
            }
            if job.started.elapsed() > within || !runs {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Something is wrong.
    pub(super) fn problem(&mut self, text: &str) {
        self.tally.problems.push(text.to_owned());
    }
}

/// The end of what a job said.
pub(super) fn last_log_lines(job: &ChaosJob) -> String {
    let said = job.said();
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join(" | ")
}
