//! Faults put into effect, and what must follow from each.

use super::case::{Cause, ChaosCase, last_log_lines};
use super::damage::{copy_folder, damage};
use super::fault::{Burst, ChaosFault, ChaosFaultKind, Injury, To};
use super::job::{ChaosJob, Launcher, STEPS};
use super::moment::At;
use super::plan::ChaosEvent;
use super::process::{self, ChaosProcess};
use crate::checkpoints;
use nix::sys::signal::Signal;
use protocol::{Outcome, Phase, Status, layout};
use std::fs;
use std::io;
use std::time::{Duration, Instant, SystemTime};

/// How long a run that goes on may take to say from what.
const SAYS_WITHIN: Duration = Duration::from_mins(1);

/// Steps after which a run has heeded a signal: two, and those that the metrics do not tell yet.
const STEPS_TO_HEED: u64 = 6;
/// Steps that take longer than a disk stays full that has room again.
const STEPS_IN_FULL_DISK: u64 = 30;

impl ChaosCase<'_> {
    /// Puts a fault into effect on the job under way.
    pub(super) fn inject(&mut self, fault: &ChaosFault, at: At) -> io::Result<()> {
        let Some(job) = &mut self.job else { return Ok(()) };
        let known = job.processes().to_vec();
        let launcher = job.launcher;
        match fault {
            ChaosFault::KillRank(number) => match pick(&known, *number) {
                Some(rank) => self.kill([rank], ChaosFaultKind::KillRank, at),
                None => self.kill(&known, ChaosFault::KillLauncher.kind(launcher), at),
            },
            ChaosFault::KillLauncher => {
                let victim = known.iter().filter(|process| process.rank.is_none());
                self.kill(victim, fault.kind(launcher), at)
            }
            ChaosFault::KillAll => self.kill(&process::of_run(&self.run, None), ChaosFaultKind::KillAll, at),
            ChaosFault::Freeze(number) => self.freeze(&known, *number, at),
            ChaosFault::Pause(number, pause) => {
                let paused = pick(&known, *number);
                let met = process::send(paused, Signal::SIGSTOP) > 0;
                std::thread::sleep(*pause);
                process::send(paused, Signal::SIGCONT);
                self.book(ChaosFaultKind::Pause, at, met);
                Ok(())
            }
            ChaosFault::FullDisk(free) => self.fill_disk(*free, at),
            ChaosFault::Damage(injury, number, many) => self.damage((*injury, *number, *many), at),
            ChaosFault::LostFile(number) => self.lose_file(*number, at),
            ChaosFault::Signals(burst) => self.send(&known, burst, at),
            ChaosFault::Call(_) => Ok(()),
        }
    }

    /// Kills these; the others must end.
    fn kill<'a>(
        &mut self,
        victims: impl IntoIterator<Item = &'a ChaosProcess>,
        kind: ChaosFaultKind,
        at: At,
    ) -> io::Result<()> {
        let met = process::send(victims, Signal::SIGKILL) > 0;
        self.book(kind, at, met);
        self.see_to_its_end(if met { Cause::Fault(kind) } else { Cause::Nothing })
    }

    /// Whether the job has so many steps to make.
    fn has_left(&self, steps: u64) -> bool {
        self.job.as_ref().and_then(ChaosJob::steps).is_some_and(|made| made + steps <= STEPS)
    }

    /// The others must notice, name the rank, and end it.
    fn freeze(&mut self, known: &[ChaosProcess], number: u64, at: At) -> io::Result<()> {
        let frozen = pick(known, number);
        let met = process::send(frozen, Signal::SIGSTOP) > 0;
        self.book(ChaosFaultKind::Freeze, at, met);
        let Some(frozen) = frozen.filter(|_| met) else { return self.see_to_its_end(Cause::Nothing) };
        if let Some(job) = self.wait_for_its_end(Cause::Fault(ChaosFaultKind::Freeze))? {
            let name = format!("rank {} on ", frozen.rank.unwrap_or(0));
            let success = job.exit().is_some_and(|exit| exit.success());
            if !success && !job.said().contains(&name) {
                self.problem(&format!("{name} was stopped, and nobody says so: {}", last_log_lines(&job)));
            }
        }
        Ok(())
    }

    /// The run may go on or end, but not without saying why; where there is room again, it goes on.
    fn fill_disk(&mut self, free: Option<Duration>, at: At) -> io::Result<()> {
        let trains = matches!(at, At::Training | At::Checkpoint | At::Evaluating);
        let must_go_on = free.is_some() && trains && self.has_left(STEPS_IN_FULL_DISK);
        if let Some(disk) = &self.disk {
            disk.fill()?;
        }
        self.book(ChaosFaultKind::FullDisk, at, true);
        if let (Some(after), Some(disk)) = (free, &self.disk) {
            std::thread::sleep(after);
            disk.free();
        }
        let job = self.wait_for_its_end(Cause::Fault(ChaosFaultKind::FullDisk))?;
        if let Some(disk) = &self.disk {
            disk.free();
        }
        let Some(job) = job.filter(|job| !job.exit().is_some_and(|exit| exit.success())) else {
            return Ok(());
        };
        if must_go_on {
            self.problem(&format!("the disk had room again, and the run ended: {}", last_log_lines(&job)));
        }
        let said = job.said().to_lowercase();
        if !["space", "room", "full"].iter().any(|word| said.contains(word)) {
            self.problem(&format!("the disk was full, and nobody says so: {}", last_log_lines(&job)));
        }
        Ok(())
    }

    /// Kills all, damages the newest checkpoints, and sees that the next start says so and takes an older one, or
    /// refuses if there is none.
    fn damage(&mut self, (injury, number, many): (Injury, u64, u64), at: At) -> io::Result<()> {
        let met = process::send(&process::of_run(&self.run, None), Signal::SIGKILL) > 0;
        let all = checkpoints(&self.run);
        // Without a checkpoint it is no more than that.
        let kind = if all.is_empty() { ChaosFaultKind::KillAll } else { ChaosFaultKind::Damage };
        self.book(kind, at, met);
        self.see_to_its_end(if met { Cause::Fault(ChaosFaultKind::KillAll) } else { Cause::Nothing })?;
        if !self.tally.is_sound() || self.run.join(layout::RESULT).exists() || all.is_empty() {
            return Ok(());
        }
        // One more may have become whole while they were killed.
        let all = checkpoints(&self.run);
        let hurt: Vec<_> = all.iter().rev().take(usize::try_from(many).unwrap_or(usize::MAX)).collect();
        let (folder, sound) = (self.run.join(layout::CHECKPOINTS), self.folder.join("sound"));
        copy_folder(&folder, &sound)?;
        for (path, step) in &hurt {
            damage(path, injury, number ^ step)?;
        }
        let lost = hurt.len() == all.len();
        let now = SystemTime::now();
        self.damaged.extend(hurt.iter().map(|(_, step)| (*step, now)));
        self.job = Some(self.start(self.plan.last, Vec::new())?);
        if lost {
            self.refuses(&layout::checkpoint(hurt[0].1))?;
            fs::remove_dir_all(&folder)?;
            copy_folder(&sound, &folder)?;
            self.damaged.clear();
        } else {
            self.says_what_is_damaged(injury, hurt.iter().map(|(_, step)| *step));
        }
        fs::remove_dir_all(&sound)
    }

    /// The job under way must name every checkpoint that it cannot use.
    fn says_what_is_damaged(&mut self, injury: Injury, steps: impl Iterator<Item = u64>) {
        for step in steps {
            let told = format!("{}` cannot be used", layout::checkpoint(step));
            if let Some(after) = self.hear(&told, SAYS_WITHIN) {
                self.tally.noticed(ChaosFaultKind::Damage, after);
                continue;
            }
            let words = self.job.as_ref().map(last_log_lines).unwrap_or_default();
            self.problem(&format!("checkpoint {step} was damaged ({injury:?}), and nobody says so: {words}"));
        }
    }

    /// No checkpoint is whole: the run must not begin anew.
    fn refuses(&mut self, newest: &str) -> io::Result<()> {
        if let Some(job) = self.wait_for_its_end(Cause::Files)?
            && !(job.exit().and_then(|exit| exit.code()) == Some(Outcome::WrongInput.exit_code().into())
                && job.said().contains(newest))
        {
            let text = format!(
                "every checkpoint was damaged, and the run was not refused ({:?}): {}",
                job.exit(),
                last_log_lines(&job)
            );
            self.problem(&text);
        }
        Ok(())
    }

    /// If the image was still needed, the failure must name it.
    fn lose_file(&mut self, number: u64, at: At) -> io::Result<()> {
        let file = self.data.file(number);
        let aside = self.folder.join("lost");
        fs::rename(&file, &aside)?;
        self.book(ChaosFaultKind::LostFile, at, true);
        let job = self.wait_for_its_end(Cause::Fault(ChaosFaultKind::LostFile))?;
        fs::rename(&aside, &file)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(job) = job
            && !job.exit().is_some_and(|exit| exit.success())
            && !job.said().contains(&name)
        {
            self.problem(&format!("{name} is missing, and nobody says so: {}", last_log_lines(&job)));
        }
        Ok(())
    }

    /// The run must be saved and ask to be resumed, unless it was about to end.
    fn send(&mut self, known: &[ChaosProcess], burst: &Burst, at: At) -> io::Result<()> {
        let may_be_done = at == At::Results || !self.has_left(STEPS_TO_HEED);
        let to: Vec<&ChaosProcess> = match burst.to {
            To::Rank(number) => pick(known, number).into_iter().collect(),
            To::Ranks => known.iter().filter(|process| process.rank.is_some()).collect(),
            To::Launcher => {
                let launcher = known.iter().find(|process| process.rank.is_none());
                launcher.or(known.first()).into_iter().collect()
            }
        };
        let met =
            burst.signals.iter().filter(|&&signal| process::send(to.iter().copied(), signal) > 0).count();
        self.book(ChaosFaultKind::Signals, at, met > 0);
        let to_launcher = to.iter().all(|process| process.rank.is_none());
        let Some(job) = self.wait_for_its_end(Cause::Fault(ChaosFaultKind::Signals))? else { return Ok(()) };
        let is_done = job.exit().is_some_and(|exit| exit.success());
        let expected = match at {
            // mpirun gives the ranks a second after TERM.
            _ if to_launcher
                && job.launcher == Launcher::Mpirun
                && burst.signals.contains(&Signal::SIGTERM) =>
            {
                true
            }
            // Before the ranks listen, a signal ends them; without ranks the launcher loses it or ends.
            At::StartUp => to_launcher || !is_done,
            _ => self.is_preempted(&job) || (is_done && may_be_done),
        };
        if expected || met == 0 {
            return Ok(());
        }
        let text =
            format!("{burst:?} in {} ended with {:?}: {}", at.name(), job.exit(), last_log_lines(&job));
        self.problem(&text);
        Ok(())
    }

    fn is_preempted(&self, job: &ChaosJob) -> bool {
        let code = job.exit().and_then(|exit| exit.code());
        code == Some(i32::from(Outcome::PREEMPTED))
            || Status::read(&self.run).is_ok_and(|status| status.phase == Phase::Preempted)
    }

    /// A start whose checkpoint calls kill it or fail.
    pub(super) fn strike_call(&mut self, event: &ChaosEvent) -> io::Result<()> {
        let ChaosFault::Call(text) = &event.fault else { return Ok(()) };
        let log = self.folder.join("calls");
        let _ = fs::remove_file(&log);
        let environment = vec![("LIFT_FAULT", text.clone()), ("LIFT_FAULT_LOG", log.display().to_string())];
        self.job = Some(self.start(event.world, environment)?);
        let begun = Instant::now();
        let Some(job) = self.wait_for_its_end(Cause::Files)? else {
            self.problem(&format!("it ran for {:?} with LIFT_FAULT={text}", begun.elapsed()));
            return Ok(());
        };
        let calls = fs::read_to_string(&log).unwrap_or_default();
        let success = job.exit().is_some_and(|exit| exit.success());
        let calls: Vec<&str> = calls.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        let met = reached(text, &calls);
        let writes = calls.iter().any(|name| ["create", "write", "rename"].contains(name));
        self.book(ChaosFaultKind::Call, if writes { At::Checkpoint } else { At::StartUp }, met);
        // A checkpoint that cannot be written is tried again or left out; one that cannot be looked for ends the run.
        let may_end = met && (text.starts_with("kill") || text.starts_with("tear") || text.contains("list@"));
        let must_end = met && !text.starts_with("fail");
        if (success && must_end) || (!success && !may_end) {
            let text = format!("LIFT_FAULT={text} ended with {:?}: {}", job.exit(), last_log_lines(&job));
            self.problem(&text);
        }
        Ok(())
    }
}

/// Whether the call was made that was to end the process or to fail.
fn reached(text: &str, calls: &[&str]) -> bool {
    let Some((what, which)) = text.split_once(':') else { return false };
    let which = which.split(':').next().unwrap_or_default();
    let (name, at) = which.split_once('@').map_or((None, which), |(name, at)| (Some(name), at));
    let Ok(at) = at.parse::<usize>() else { return false };
    let name = if what == "tear" { Some("write") } else { name };
    let made = calls.iter().filter(|made| name.is_none_or(|name| name == **made)).count();
    // Half a write ends the process before it is counted.
    if what == "tear" { made + 1 == at } else { made >= at }
}

/// A rank by any number.
fn pick(known: &[ChaosProcess], number: u64) -> Option<&ChaosProcess> {
    let ranks: Vec<&ChaosProcess> = known.iter().filter(|process| process.rank.is_some()).collect();
    ranks.get(number as usize % ranks.len().max(1)).copied()
}
