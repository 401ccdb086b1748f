//! Faults put into effect, and what must follow from each.

use super::case::{Case, last_words};
use super::damage::{copy_folder, damage};
use super::fault::{Burst, Fault, Injury, To};
use super::job::{Job, checkpoints};
use super::moment::At;
use super::plan::Event;
use super::process::{self, Process};
use launcher::protocol::{Outcome, Phase, Status, layout};
use nix::sys::signal::Signal;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// How long a run that goes on may take to say from what.
const SAYS_WITHIN: Duration = Duration::from_mins(1);

impl Case<'_> {
    /// Puts a fault into effect on the job under way.
    pub(super) fn inject(&mut self, fault: &Fault, at: At) -> io::Result<()> {
        let Some(job) = &mut self.job else { return Ok(()) };
        let known = job.processes().to_vec();
        let kind = Some(fault.kind());
        match fault {
            Fault::KillRank(number) => {
                process::send(pick(&known, *number), Signal::SIGKILL);
                self.see_to_its_end(kind)
            }
            Fault::KillLauncher => {
                process::send(known.iter().filter(|process| process.rank.is_none()), Signal::SIGKILL);
                self.see_to_its_end(kind)
            }
            Fault::KillAll => {
                process::send(&known, Signal::SIGKILL);
                self.see_to_its_end(kind)
            }
            Fault::Freeze(number) => self.freeze(&known, *number, kind),
            Fault::Pause(number, pause) => {
                let paused = pick(&known, *number);
                process::send(paused, Signal::SIGSTOP);
                std::thread::sleep(*pause);
                process::send(paused, Signal::SIGCONT);
                self.must_go_on = true;
                Ok(())
            }
            Fault::FullDisk(free) => self.fill_disk(*free, kind),
            Fault::Damage(injury, number, many) => self.damage(&known, (*injury, *number, *many), kind),
            Fault::LostFile(number) => self.lose_file(*number, kind),
            Fault::Signals(burst) => self.send(&known, burst, at, kind),
            Fault::Call(_) => Ok(()),
        }
    }

    /// The others must notice, name the rank, and end it.
    fn freeze(&mut self, known: &[Process], number: u64, kind: Option<usize>) -> io::Result<()> {
        let Some(frozen) = pick(known, number) else { return self.see_to_its_end(None) };
        process::send([frozen], Signal::SIGSTOP);
        if let Some(job) = self.wait_for_its_end(kind)? {
            let name = format!("rank {}", frozen.rank.unwrap_or(0));
            let success = job.exit().is_some_and(|exit| exit.success());
            if !success && !job.said().contains(&name) {
                self.problem(&format!("{name} was stopped, and nobody says so: {}", last_words(&job)));
            }
        }
        Ok(())
    }

    /// The run may go on or end, but not without saying why.
    fn fill_disk(&mut self, free: Option<Duration>, kind: Option<usize>) -> io::Result<()> {
        if let Some(disk) = &self.disk {
            disk.fill()?;
        }
        if let (Some(after), Some(disk)) = (free, &self.disk) {
            std::thread::sleep(after);
            disk.free();
        }
        let job = self.wait_for_its_end(kind)?;
        if let Some(disk) = &self.disk {
            disk.free();
        }
        let Some(job) = job.filter(|job| !job.exit().is_some_and(|exit| exit.success())) else {
            return Ok(());
        };
        let said = job.said().to_lowercase();
        if !["space", "room", "full"].iter().any(|word| said.contains(word)) {
            self.problem(&format!("the disk was full, and nobody says so: {}", last_words(&job)));
        }
        Ok(())
    }

    /// Kills all, damages the newest checkpoints, and sees that the next start says so and takes an older one, or
    /// refuses if there is none.
    fn damage(
        &mut self,
        known: &[Process],
        (injury, number, many): (Injury, u64, u64),
        kind: Option<usize>,
    ) -> io::Result<()> {
        process::send(known, Signal::SIGKILL);
        self.see_to_its_end(kind)?;
        if !self.tally.is_sound() || self.run.join(layout::RESULT).exists() {
            return Ok(());
        }
        let all = checkpoints(&self.run);
        let hurt: Vec<_> = all.iter().rev().take(usize::try_from(many).unwrap_or(usize::MAX)).collect();
        if hurt.is_empty() {
            return Ok(());
        }
        let (folder, sound) = (self.run.join(layout::CHECKPOINTS), self.folder.join("sound"));
        copy_folder(&folder, &sound)?;
        for (path, step) in &hurt {
            damage(path, injury, number ^ step)?;
        }
        let lost = hurt.len() == all.len();
        self.job = Some(self.start(self.plan.last, Vec::new())?);
        let word = "cannot be used";
        let newest = layout::checkpoint(hurt[0].1);
        if lost {
            self.refuses(&newest)?;
            fs::remove_dir_all(&folder)?;
            copy_folder(&sound, &folder)?;
        } else if !self.hear(word, SAYS_WITHIN) {
            let words = self.job.as_ref().map(last_words).unwrap_or_default();
            self.problem(&format!(
                "checkpoint {newest} was damaged ({injury:?}), and nobody says so: {words}"
            ));
        }
        fs::remove_dir_all(&sound)
    }

    /// No checkpoint is whole: the run must not begin anew.
    fn refuses(&mut self, newest: &str) -> io::Result<()> {
        if let Some(job) = self.wait_for_its_end(None)?
            && !(job.exit().and_then(|exit| exit.code()) == Some(Outcome::WrongInput.exit_code().into())
                && job.said().contains(newest))
        {
            let text = format!(
                "every checkpoint was damaged, and the run was not refused ({:?}): {}",
                job.exit(),
                last_words(&job)
            );
            self.problem(&text);
        }
        Ok(())
    }

    /// If the image was still needed, the failure must name it.
    fn lose_file(&mut self, number: u64, kind: Option<usize>) -> io::Result<()> {
        let file = self.data.file(number);
        let aside = self.folder.join("lost");
        fs::rename(&file, &aside)?;
        let job = self.wait_for_its_end(kind)?;
        fs::rename(&aside, &file)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(job) = job
            && !job.exit().is_some_and(|exit| exit.success())
            && !job.said().contains(&name)
        {
            self.problem(&format!("{name} is missing, and nobody says so: {}", last_words(&job)));
        }
        Ok(())
    }

    fn send(&mut self, known: &[Process], burst: &Burst, at: At, kind: Option<usize>) -> io::Result<()> {
        let to: Vec<&Process> = match burst.to {
            To::Rank(number) => pick(known, number).into_iter().collect(),
            To::Ranks => known.iter().filter(|process| process.rank.is_some()).collect(),
            To::Launcher => {
                let launcher = known.iter().find(|process| process.rank.is_none());
                launcher.or(known.first()).into_iter().collect()
            }
        };
        for &signal in &burst.signals {
            process::send(to.iter().copied(), signal);
        }
        let Some(job) = self.wait_for_its_end(kind)? else { return Ok(()) };
        // Before the ranks listen, a signal ends them; and mpirun gives them a second after TERM.
        let hasty = burst.to == To::Launcher && burst.signals.contains(&Signal::SIGTERM);
        if at == At::StartUp || hasty || self.asked_to_stop(&job) {
            return Ok(());
        }
        let text = format!("{burst:?} in {} ended with {:?}: {}", at.name(), job.exit(), last_words(&job));
        self.problem(&text);
        Ok(())
    }

    fn asked_to_stop(&self, job: &Job) -> bool {
        let code = job.exit().and_then(|exit| exit.code());
        let preempted = Some(i32::from(Outcome::PREEMPTED));
        let done = code == Some(0) && self.run.join(layout::RESULT).exists();
        done || code == preempted
            || Status::read(&self.run).is_ok_and(|status| status.phase == Phase::Preempted)
    }

    /// A start whose checkpoint calls kill it or fail.
    pub(super) fn strike_call(&mut self, event: &Event) -> io::Result<()> {
        let Fault::Call(text) = &event.fault else { return Ok(()) };
        let log = self.folder.join("calls");
        let _ = fs::remove_file(&log);
        let environment = vec![("LIFT_FAULT", text.clone()), ("LIFT_FAULT_LOG", log.display().to_string())];
        self.job = Some(self.start(event.world, environment)?);
        let begun = Instant::now();
        let Some(job) = self.wait_for_its_end(None)? else {
            self.problem(&format!("it ran for {:?} with LIFT_FAULT={text}", begun.elapsed()));
            return Ok(());
        };
        let calls = fs::read_to_string(&log).unwrap_or_default();
        let success = job.exit().is_some_and(|exit| exit.success());
        let struck = if text.starts_with("fail") { reached(text, &calls) } else { !success };
        self.tally.strike(event.fault.kind(), if struck { At::Checkpoint } else { At::Gone });
        if !success && text.starts_with("fail") && !job.said().contains("rror") {
            self.problem(&format!("LIFT_FAULT={text} ended it without a word: {}", last_words(&job)));
        }
        Ok(())
    }
}

/// Whether the call that was to fail was made.
fn reached(text: &str, calls: &str) -> bool {
    let Some((name, at)) = text.split(':').nth(1).and_then(|which| which.split_once('@')) else {
        return true;
    };
    let made = calls.lines().filter(|line| line.split(' ').nth(1) == Some(name)).count();
    at.parse().is_ok_and(|at: usize| made >= at)
}

/// A rank by any number; the launcher while there is none.
fn pick(known: &[Process], number: u64) -> Option<&Process> {
    let ranks: Vec<&Process> = known.iter().filter(|process| process.rank.is_some()).collect();
    if ranks.is_empty() {
        return known.first();
    }
    ranks.get(number as usize % ranks.len()).copied()
}
