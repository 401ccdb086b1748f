//! Injects faults, and checks their required effects.

use super::case::{Cause, ChaosCase, last_output};
use super::damage::{copy_folder, damage};
use super::fault::{Burst, ChaosFault, ChaosFaultKind, DamageKind, To};
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

/// Maximum time until a start reports a damaged checkpoint.
const REPORT_TIMEOUT: Duration = Duration::from_mins(1);

/// Steps after which a run has reacted to a signal: two, plus those that are not yet in the metrics.
const STEPS_TO_STOP: u64 = 6;
/// A number of steps that takes longer than a temporarily full disk stays full.
const STEPS_IN_FULL_DISK: u64 = 30;

impl ChaosCase<'_> {
    /// Injects a fault into the current job.
    pub(super) fn inject(&mut self, fault: &ChaosFault, at: At) -> io::Result<()> {
        let Some(job) = &mut self.job else { return Ok(()) };
        let processes = job.processes().to_vec();
        let launcher = job.launcher;
        match fault {
            ChaosFault::KillRank(number) => match pick(&processes, *number) {
                Some(rank) => self.kill([rank], ChaosFaultKind::KillRank, at),
                None => self.kill(&processes, ChaosFault::KillLauncher.kind(launcher), at),
            },
            ChaosFault::KillLauncher => {
                let victim = processes.iter().filter(|process| process.rank.is_none());
                self.kill(victim, fault.kind(launcher), at)
            }
            ChaosFault::KillAll => self.kill(&process::of_run(&self.run, None), ChaosFaultKind::KillAll, at),
            ChaosFault::Freeze(number) => self.freeze(&processes, *number, at),
            ChaosFault::Pause(number, pause) => {
                let paused = pick(&processes, *number);
                let hit = process::send(paused, Signal::SIGSTOP) > 0;
                std::thread::sleep(*pause);
                process::send(paused, Signal::SIGCONT);
                self.count_fault(ChaosFaultKind::Pause, at, hit);
                Ok(())
            }
            ChaosFault::FullDisk(free) => self.fill_disk(*free, at),
            ChaosFault::Damage(kind, number, many) => self.damage((*kind, *number, *many), at),
            ChaosFault::LostFile(number) => self.lose_file(*number, at),
            ChaosFault::Signals(burst) => self.send(&processes, burst, at),
            ChaosFault::Call(_) => Ok(()),
        }
    }

    /// Kills these processes; the others must end.
    fn kill<'a>(
        &mut self,
        victims: impl IntoIterator<Item = &'a ChaosProcess>,
        kind: ChaosFaultKind,
        at: At,
    ) -> io::Result<()> {
        let hit = process::send(victims, Signal::SIGKILL) > 0;
        self.count_fault(kind, at, hit);
        self.wait_and_check(if hit { Cause::Fault(kind) } else { Cause::Nothing })
    }

    /// Whether at least this many steps remain.
    fn has_remaining(&self, steps: u64) -> bool {
        self.job.as_ref().and_then(ChaosJob::steps).is_some_and(|done| done + steps <= STEPS)
    }

    /// Stops a rank permanently: the others must detect it, name it and end it.
    fn freeze(&mut self, processes: &[ChaosProcess], number: u64, at: At) -> io::Result<()> {
        let stopped = pick(processes, number);
        let hit = process::send(stopped, Signal::SIGSTOP) > 0;
        self.count_fault(ChaosFaultKind::Freeze, at, hit);
        let Some(stopped) = stopped.filter(|_| hit) else { return self.wait_and_check(Cause::Nothing) };
        if let Some(job) = self.wait_for_end(Cause::Fault(ChaosFaultKind::Freeze))? {
            let name = format!("rank {} on ", stopped.rank.unwrap_or(0));
            let success = job.exit().is_some_and(|exit| exit.success());
            if !success && !job.output().contains(&name) {
                self.problem(&format!("{name}was stopped, but no rank reports it: {}", last_output(&job)));
            }
        }
        Ok(())
    }

    /// Fills the disk: the run may continue or end, but must report the reason. If space becomes free, it must
    /// continue.
    fn fill_disk(&mut self, free: Option<Duration>, at: At) -> io::Result<()> {
        let is_training = matches!(at, At::Training | At::Checkpoint | At::Evaluating);
        let must_continue = free.is_some() && is_training && self.has_remaining(STEPS_IN_FULL_DISK);
        if let Some(disk) = &self.disk {
            disk.fill()?;
        }
        self.count_fault(ChaosFaultKind::FullDisk, at, true);
        if let (Some(after), Some(disk)) = (free, &self.disk) {
            std::thread::sleep(after);
            disk.free();
        }
        let job = self.wait_for_end(Cause::Fault(ChaosFaultKind::FullDisk))?;
        if let Some(disk) = &self.disk {
            disk.free();
        }
        let Some(job) = job.filter(|job| !job.exit().is_some_and(|exit| exit.success())) else {
            return Ok(());
        };
        if must_continue {
            self.problem(&format!("the disk had space again, but the run ended: {}", last_output(&job)));
        }
        let output = job.output().to_lowercase();
        if !["space", "room", "full"].iter().any(|word| output.contains(word)) {
            self.problem(&format!("the disk was full, but no rank reports it: {}", last_output(&job)));
        }
        Ok(())
    }

    /// Kills all processes and damages the newest checkpoints. The next start must report them and use an older one,
    /// or be refused if none is intact.
    fn damage(&mut self, (damage_kind, number, many): (DamageKind, u64, u64), at: At) -> io::Result<()> {
        let hit = process::send(&process::of_run(&self.run, None), Signal::SIGKILL) > 0;
        let all = checkpoints(&self.run);
        // Without a checkpoint, this is only a kill.
        let kind = if all.is_empty() { ChaosFaultKind::KillAll } else { ChaosFaultKind::Damage };
        self.count_fault(kind, at, hit);
        self.wait_and_check(if hit { Cause::Fault(ChaosFaultKind::KillAll) } else { Cause::Nothing })?;
        if !self.tally.is_sound() || self.run.join(layout::RESULT).exists() || all.is_empty() {
            return Ok(());
        }
        // Another checkpoint may have been completed before the kill.
        let all = checkpoints(&self.run);
        let damaged_checkpoints: Vec<_> =
            all.iter().rev().take(usize::try_from(many).unwrap_or(usize::MAX)).collect();
        let (folder, intact) = (self.run.join(layout::CHECKPOINTS), self.folder.join("sound"));
        copy_folder(&folder, &intact)?;
        for (path, step) in &damaged_checkpoints {
            damage(path, damage_kind, number ^ step)?;
        }
        let all_damaged = damaged_checkpoints.len() == all.len();
        let now = SystemTime::now();
        self.damaged.extend(damaged_checkpoints.iter().map(|(_, step)| (*step, now)));
        self.job = Some(self.start(self.plan.last, Vec::new())?);
        if all_damaged {
            self.check_refused(&layout::checkpoint(damaged_checkpoints[0].1))?;
            fs::remove_dir_all(&folder)?;
            copy_folder(&intact, &folder)?;
            self.damaged.clear();
        } else {
            self.check_damage_is_reported(damage_kind, damaged_checkpoints.iter().map(|(_, step)| *step));
        }
        fs::remove_dir_all(&intact)
    }

    /// Checks that the current job names every damaged checkpoint.
    fn check_damage_is_reported(&mut self, kind: DamageKind, steps: impl Iterator<Item = u64>) {
        for step in steps {
            let message = format!("{}` cannot be used", layout::checkpoint(step));
            if let Some(after) = self.wait_for_output(&message, REPORT_TIMEOUT) {
                self.tally.detected(ChaosFaultKind::Damage, after);
                continue;
            }
            let output = self.job.as_ref().map(last_output).unwrap_or_default();
            self.problem(&format!(
                "checkpoint {step} was damaged ({kind:?}), but no rank reports it: {output}"
            ));
        }
    }

    /// Checks that a run without an intact checkpoint is refused and does not start from the beginning.
    fn check_refused(&mut self, newest: &str) -> io::Result<()> {
        if let Some(job) = self.wait_for_end(Cause::Files)?
            && !(job.exit().and_then(|exit| exit.code()) == Some(Outcome::WrongInput.exit_code().into())
                && job.output().contains(newest))
        {
            let text = format!(
                "every checkpoint was damaged, but the run was not refused ({:?}): {}",
                job.exit(),
                last_output(&job)
            );
            self.problem(&text);
        }
        Ok(())
    }

    /// Removes an image: if the run still needs it, the failure must name it.
    fn lose_file(&mut self, number: u64, at: At) -> io::Result<()> {
        let file = self.data.file(number);
        let aside = self.folder.join("lost");
        fs::rename(&file, &aside)?;
        self.count_fault(ChaosFaultKind::LostFile, at, true);
        let job = self.wait_for_end(Cause::Fault(ChaosFaultKind::LostFile))?;
        fs::rename(&aside, &file)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(job) = job
            && !job.exit().is_some_and(|exit| exit.success())
            && !job.output().contains(&name)
        {
            self.problem(&format!("{name} is missing, but no rank reports it: {}", last_output(&job)));
        }
        Ok(())
    }

    /// Sends signals: the run must save and be resumable, unless it was about to end.
    fn send(&mut self, processes: &[ChaosProcess], burst: &Burst, at: At) -> io::Result<()> {
        let may_be_done = at == At::Results || !self.has_remaining(STEPS_TO_STOP);
        let to: Vec<&ChaosProcess> = match burst.to {
            To::Rank(number) => pick(processes, number).into_iter().collect(),
            To::Ranks => processes.iter().filter(|process| process.rank.is_some()).collect(),
            To::Launcher => {
                let launcher = processes.iter().find(|process| process.rank.is_none());
                launcher.or(processes.first()).into_iter().collect()
            }
        };
        let hit =
            burst.signals.iter().filter(|&&signal| process::send(to.iter().copied(), signal) > 0).count();
        self.count_fault(ChaosFaultKind::Signals, at, hit > 0);
        let to_launcher = to.iter().all(|process| process.rank.is_none());
        let Some(job) = self.wait_for_end(Cause::Fault(ChaosFaultKind::Signals))? else { return Ok(()) };
        let is_done = job.exit().is_some_and(|exit| exit.success());
        let expected = match at {
            // mpirun kills the ranks a second after TERM.
            _ if to_launcher
                && job.launcher == Launcher::Mpirun
                && burst.signals.contains(&Signal::SIGTERM) =>
            {
                true
            }
            // Before the ranks handle signals, a signal ends them; without ranks, the launcher loses it or ends.
            At::StartUp => to_launcher || !is_done,
            _ => self.is_preempted(&job) || (is_done && may_be_done),
        };
        if expected || hit == 0 {
            return Ok(());
        }
        let text = format!("{burst:?} in {} ended with {:?}: {}", at.name(), job.exit(), last_output(&job));
        self.problem(&text);
        Ok(())
    }

    fn is_preempted(&self, job: &ChaosJob) -> bool {
        let code = job.exit().and_then(|exit| exit.code());
        code == Some(i32::from(Outcome::PREEMPTED))
            || Status::read(&self.run).is_ok_and(|status| status.phase == Phase::Preempted)
    }

    /// Runs a start in which a checkpoint call kills the process or fails.
    pub(super) fn inject_call(&mut self, event: &ChaosEvent) -> io::Result<()> {
        let ChaosFault::Call(text) = &event.fault else { return Ok(()) };
        let log = self.folder.join("calls");
        let _ = fs::remove_file(&log);
        let environment = vec![("LIFT_FAULT", text.clone()), ("LIFT_FAULT_LOG", log.display().to_string())];
        self.job = Some(self.start(event.world, environment)?);
        let start = Instant::now();
        let Some(job) = self.wait_for_end(Cause::Files)? else {
            self.problem(&format!("no end within {:?} with LIFT_FAULT={text}", start.elapsed()));
            return Ok(());
        };
        let calls = fs::read_to_string(&log).unwrap_or_default();
        let success = job.exit().is_some_and(|exit| exit.success());
        let calls: Vec<&str> = calls.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        let hit = reached(text, &calls);
        let writes = calls.iter().any(|name| ["create", "write", "rename"].contains(name));
        self.count_fault(ChaosFaultKind::Call, if writes { At::Checkpoint } else { At::StartUp }, hit);
        // A checkpoint that cannot be written is retried or skipped; a failed listing of checkpoints ends the run.
        let may_end = hit && (text.starts_with("kill") || text.starts_with("tear") || text.contains("list@"));
        let must_end = hit && !text.starts_with("fail");
        if (success && must_end) || (!success && !may_end) {
            let text = format!("LIFT_FAULT={text} ended with {:?}: {}", job.exit(), last_output(&job));
            self.problem(&text);
        }
        Ok(())
    }
}

/// Whether the run has made the call that ends the process or fails.
fn reached(text: &str, calls: &[&str]) -> bool {
    let Some((what, which)) = text.split_once(':') else { return false };
    let which = which.split(':').next().unwrap_or_default();
    let (name, at) = which.split_once('@').map_or((None, which), |(name, at)| (Some(name), at));
    let Ok(at) = at.parse::<usize>() else { return false };
    let name = if what == "tear" { Some("write") } else { name };
    let count = calls.iter().filter(|call| name.is_none_or(|name| name == **call)).count();
    // A torn write ends the process before it is counted.
    if what == "tear" { count + 1 == at } else { count >= at }
}

/// Selects a rank by any number.
fn pick(processes: &[ChaosProcess], number: u64) -> Option<&ChaosProcess> {
    let ranks: Vec<&ChaosProcess> = processes.iter().filter(|process| process.rank.is_some()).collect();
    ranks.get(number as usize % ranks.len().max(1)).copied()
}
