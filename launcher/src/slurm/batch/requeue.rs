//! Requeues a job and stores the state for its next attempt.

use super::allocation::Allocation;
use super::{newest_checkpoint, ranks};
use crate::run::end::AttemptEnd;
use crate::run::restart::{RestartBudget, RestartDecision};
use protocol::arguments::TrainerArguments;
use protocol::terminal::{say, shell_words};
use protocol::{Outcome, environment, layout};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Time in which Slurm ends a requeued job.
const SLURM_ENDS_IT: Duration = Duration::from_mins(2);

/// Time in which `lift cancel` ends a job after its ranks have saved.
const CANCEL_FOLLOWS: Duration = Duration::from_secs(30);

/// The requeue policy of a job.
#[derive(Debug)]
pub struct Requeue<'a> {
    allocation: &'a Allocation,
    arguments: &'a TrainerArguments,
    run: Option<&'a Path>,
    restarts: RestartBudget,
}

impl<'a> Requeue<'a> {
    /// The policy for this job. State that an earlier attempt of this job left in the run folder counts; that of
    /// another job does not.
    pub fn new(allocation: &'a Allocation, arguments: &'a TrainerArguments, run: Option<&'a Path>) -> Self {
        let made = allocation.restarts;
        let stuck_at = match run.map(note) {
            _ if made == 0 => None,
            // Without a run folder there is no progress.
            None => Some(0),
            Some(note) => std::fs::read_to_string(note).ok().and_then(|text| text.trim().parse().ok()),
        };
        Self {
            allocation,
            arguments,
            run,
            restarts: RestartBudget::continued(allocation.most_restarts, made, stuck_at),
        }
    }

    /// The decision after an attempt.
    pub fn next(&mut self, outcome: Outcome, end: &AttemptEnd) -> RestartDecision {
        let next = self.restarts.after(outcome, end.found, end.left);
        if let Some(run) = self.run {
            self.keep(&note(run));
        }
        next
    }

    /// Stores the step at which this attempt made no progress, for the next attempt.
    fn keep(&self, note: &Path) {
        let kept = match self.restarts.stuck_at() {
            Some(step) => std::fs::write(note, format!("{step}\n")),
            None => std::fs::remove_file(note),
        };
        if let Err(error) = kept
            && error.kind() != std::io::ErrorKind::NotFound
        {
            say(format_args!(
                "lift: cannot write {}: {error}; an attempt without a newer checkpoint is not counted",
                note.display()
            ));
        }
    }

    /// Asks Slurm to requeue the job, and waits until Slurm ends this process. Returns if the requeue fails.
    pub fn put_back(&self) {
        let Allocation { restarts, most_restarts: most, .. } = self.allocation;
        if self.run.is_some_and(|run| run.join(layout::LOGS).join(layout::CANCELLED).exists()) {
            say("lift: not requeued: lift cancel ends this job");
            // If this process ended first, Slurm would record a failure instead of the cancellation.
            wait_for_slurm(CANCEL_FOLLOWS);
            return;
        }
        if restarts >= most {
            self.refuse_for_limit(*most);
            return;
        }
        let job = self.allocation.name();
        let number = restarts + 1;
        say(format_args!("lift: requeueing job {job} (restart {number} of at most {most})"));
        let asked = Command::new("scontrol").args(["requeue", &job]).stdin(Stdio::null()).status();
        if !asked.is_ok_and(|status| status.success()) {
            let command = shell_words(self.resumed().list());
            say(format_args!(
                "lift: scontrol cannot requeue it (see above); resume with: sbatch ... -- {command}"
            ));
            return;
        }
        wait_for_slurm(SLURM_ENDS_IT);
    }

    /// Reports that no restart is left.
    pub fn refuse_for_limit(&self, most: u32) {
        let (made, name) = (self.allocation.restarts, environment::MAX_RESTARTS);
        say(format_args!("lift: not requeued: restarted {made} times already ({name}={most})"));
    }

    /// The trainer arguments with which the user resumes the run in another job.
    fn resumed(&self) -> TrainerArguments {
        match self.run {
            None => self.arguments.clone(),
            Some(run) if newest_checkpoint(run) > 0 => self.arguments.resumed_from_its_folder(),
            Some(_) => self.arguments.resumed(),
        }
    }
}

/// Waits until Slurm ends this process, at most for this time.
fn wait_for_slurm(limit: Duration) {
    let start = Instant::now();
    while !ranks::is_ended_by_slurm() && start.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn note(run: &Path) -> PathBuf {
    run.join(layout::LOGS).join(layout::WITHOUT_GAIN)
}
