//! One run with its faults, from its first start to the comparison with the undisturbed one.

use super::compare::Expected;
use super::data::DataSet;
use super::disk::SmallDisk;
use super::fault::{Fault, KINDS};
use super::job::{Job, Start, Waited, checkpoints};
use super::moment::{self, At};
use super::plan::{Event, Plan, World};
use super::process;
use super::tally::Tally;
use super::workshop::{PATIENCE, UNHURRIED, Workshop};
use launcher::protocol::layout;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Seconds of silence after which a stopped rank counts as gone, in starts where one will be.
const HURRIED: u64 = 5;
/// Starts without a fault that a run gets to come to its end.
const LAST_STARTS: usize = 2;

/// A run under way.
#[derive(Debug)]
pub struct Case<'a> {
    pub(super) shop: &'a Workshop,
    pub(super) plan: &'a Plan,
    pub(super) folder: PathBuf,
    pub(super) run: PathBuf,
    pub(super) data: DataSet,
    pub(super) disk: Option<SmallDisk>,
    pub(super) job: Option<Job>,
    pub(super) tally: Tally,
    /// A pause must not end a job; this one had a pause.
    pub(super) must_go_on: bool,
    hurried: bool,
    starts: usize,
}

impl<'a> Case<'a> {
    /// Prepares the folder of a run.
    pub fn prepare(shop: &'a Workshop, plan: &'a Plan, number: u64) -> io::Result<Self> {
        let folder = shop.folder.join(format!("case-{number}"));
        fs::create_dir_all(&folder)?;
        let own_disk = plan.any(|fault| matches!(fault, Fault::FullDisk(_)));
        let disk = own_disk.then(|| SmallDisk::mount(&folder.join("disk"))).transpose()?;
        let own_data = plan.any(|fault| matches!(fault, Fault::LostFile(_)));
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
            tally: Tally::default(),
            must_go_on: false,
            hurried: false,
            starts: 0,
        })
    }

    /// Plays the plan, and compares.
    pub fn play(mut self) -> (Tally, PathBuf) {
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
            if !self.tally.is_sound() || self.run.join(layout::RESULT).exists() {
                break;
            }
            self.strike(event)?;
        }
        Ok(())
    }

    fn strike(&mut self, event: &Event) -> io::Result<()> {
        let call = matches!(event.fault, Fault::Call(_));
        let hurried = matches!(event.fault, Fault::Freeze(_));
        if call || hurried != self.hurried {
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
        let there = event.moment.wait(job, PATIENCE);
        let at = if there { moment::now(job) } else { At::Gone };
        job.processes();
        self.tally.strike(event.fault.kind(), at);
        if at == At::Gone {
            return self.see_to_its_end(None);
        }
        self.inject(&event.fault, at)
    }

    /// Starts the run once more.
    pub(super) fn start(&mut self, world: World, mut environment: Vec<(&str, String)>) -> io::Result<Job> {
        if super::is_interrupted() {
            return Err(io::Error::other("interrupted"));
        }
        let faulty = !environment.is_empty();
        if let Some(bug) = &self.shop.planted {
            environment.push(("LIFT_PLANTED", bug.clone()));
        }
        let program = if faulty { self.shop.faulty.as_ref() } else { None };
        let start = Start {
            program: program.unwrap_or(&self.shop.program),
            run: &self.run,
            scratch: &self.folder,
            data: &self.data,
            determinism: self.plan.determinism,
            ranks: world.ranks,
            bare: world.bare,
            patience: if self.hurried { HURRIED } else { UNHURRIED },
            environment,
            number: self.starts,
        };
        self.starts += 1;
        self.tally.starts += 1;
        self.tally.resumes += u64::from(!checkpoints(&self.run).is_empty());
        start.spawn()
    }

    /// Waits for the end of the job, which `kind` brought about if it is given, and looks at how it ended.
    pub(super) fn see_to_its_end(&mut self, kind: Option<usize>) -> io::Result<()> {
        self.wait_for_its_end(kind).map(drop)
    }

    /// The same; the job, unless it had to be ended by force.
    pub(super) fn wait_for_its_end(&mut self, kind: Option<usize>) -> io::Result<Option<Job>> {
        let Some(mut job) = self.job.take() else { return Ok(None) };
        let waited = job.wait(PATIENCE);
        if let Some(first) = job.first_step() {
            self.tally.back = self.tally.back.max(first);
        }
        let by = kind.map_or("no fault", |kind| KINDS[kind]);
        match waited {
            Waited::Ended(after) => {
                if let Some(kind) = kind {
                    self.tally.detected(kind, after);
                }
                let success = job.exit().is_some_and(|exit| exit.success());
                if success && !self.run.join(layout::RESULT).exists() {
                    self.problem(&format!("start ended with 0 and without a result after {by}"));
                }
                if self.must_go_on && kind.is_none() && !success {
                    let text =
                        format!("a paused rank ended the job ({:?}): {}", job.exit(), last_words(&job));
                    self.problem(&text);
                }
                self.must_go_on = false;
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

    /// Ends what runs, without counting it as a fault.
    pub(super) fn set_aside(&mut self) {
        self.must_go_on = false;
        if let Some(mut job) = self.job.take() {
            job.destroy();
        }
    }

    /// Brings the run to its end, and compares it with the undisturbed one.
    fn finish(&mut self) -> io::Result<()> {
        let mut tries = 0;
        if self.job.is_some() {
            self.see_to_its_end(None)?;
        }
        while self.tally.is_sound() && !self.run.join(layout::RESULT).exists() {
            if tries == LAST_STARTS {
                self.problem("the run does not come to its end");
                break;
            }
            tries += 1;
            self.hurried = false;
            self.job = Some(self.start(self.plan.last, Vec::new())?);
            if let Some(job) = self.wait_for_its_end(None)?
                && !job.exit().is_some_and(|exit| exit.success())
            {
                let text = format!("an undisturbed start failed ({:?}): {}", job.exit(), last_words(&job));
                self.problem(&text);
            }
        }
        if self.tally.is_sound() {
            self.compare();
        }
        Ok(())
    }

    fn compare(&mut self) {
        let differences = match Expected::of(&self.run) {
            Ok(found) => self.shop.expected(self.plan.determinism).compare(&found),
            Err(problem) => return self.problem(&problem),
        };
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

    /// Waits until the job that was started says something; a run must not be silent about it.
    pub(super) fn hear(&mut self, what: &str, within: Duration) -> bool {
        let start = std::time::Instant::now();
        let Some(job) = &mut self.job else { return false };
        loop {
            if job.said().contains(what) {
                return true;
            }
            if start.elapsed() > within || (!job.runs() && !job.said().contains(what)) {
                return false;
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
pub(super) fn last_words(job: &Job) -> String {
    let said = job.said();
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join(" | ")
}
