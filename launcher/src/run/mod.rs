//! `lift run`: starts and monitors ranks on this machine or on several hosts, and restarts them if that can help.

pub(crate) mod attempt;
mod command;
pub(crate) mod end;
pub(crate) mod first_failure;
pub mod hosts;
mod plan;
mod processes;
mod report;
pub(crate) mod restart;
pub(crate) mod signals;
mod stopped;

pub(crate) use attempt::end_with_this_process;
pub use command::CpuBinding;
pub(crate) use command::{mpirun, set_grace};
pub use plan::{LaunchPlan, RunOptions, trainer};
pub(crate) use plan::{is_program, on_path};

use attempt::attempt;
use end::{AttemptEnd, Before};
use hosts::Host;
use nix::sys::prctl::set_child_subreaper;
use protocol::{Outcome, Status};
use report::EventLog;
use restart::{NoRestart, RestartBudget, RestartDecision};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why ranks could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The trainer does not exist.
    #[error("{} does not exist or is not a program\nhint: build it with `make build`, or set LIFT_TRAINER", .0.display())]
    NoTrainer(PathBuf),
    /// The trainer cannot be started.
    #[error("cannot start {program}: {source}")]
    Trainer {
        /// The program.
        program: String,
        /// The error of the system.
        source: io::Error,
    },
    /// `mpirun` cannot be started.
    #[error("cannot start {program}: {source}\nhint: load your MPI module, or run `make setup`")]
    NoMpirun {
        /// The program.
        program: String,
        /// The error of the system.
        source: io::Error,
    },
    /// An unexpected failure of a system call.
    #[error("cannot watch the ranks: {0}")]
    Watch(io::Error),
    /// The list of hosts is invalid.
    #[error(transparent)]
    Hosts(#[from] hosts::HostsError),
    /// Arguments that the trainer would refuse.
    #[error(transparent)]
    Usage(#[from] protocol::arguments::UsageError),
    /// Options that contradict each other.
    #[error("{0}")]
    Options(String),
    /// A folder cannot be created.
    #[error("cannot create the folder `{}`: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// Runs the ranks to the end, including restarts.
pub fn run(plan: &LaunchPlan) -> Result<Outcome, StartError> {
    signals::record().map_err(|errno| StartError::Watch(errno.into()))?;
    // Orphaned processes become children of this process, which can then end them.
    set_child_subreaper(true).map_err(|errno| StartError::Watch(errno.into()))?;
    let report = EventLog { json: plan.json, trains: plan.trains };
    let mut restarts = RestartBudget::new(plan.restarts, plan.pause);
    loop {
        let end = start(plan, report, restarts.made())?;
        let asked = asked();
        let outcome = as_asked(end.outcome, asked);
        if let Some(run) = plan.run.as_deref().filter(|_| asked.is_some() && end.ranks) {
            leave_word(run, outcome);
        }
        let next = if asked.is_some() {
            RestartDecision::Stop(NoRestart::Ended)
        } else if end.ranks {
            restarts.after(outcome, end.found, end.left)
        } else {
            restarts.without_ranks()
        };
        match next {
            RestartDecision::Stop(why) => {
                report.finish(outcome, end.step, restarts.made(), why);
                return Ok(outcome);
            }
            RestartDecision::Restart(pause) => {
                report.restart(restarts.made(), plan.restarts, pause, end.step);
                if let Some(outcome) = rest(pause) {
                    report.finish(outcome, end.step, restarts.made() - 1, NoRestart::Ended);
                    return Ok(outcome);
                }
            }
        }
    }
}

/// The outcome of the request that this process received, if any.
pub(crate) fn asked() -> Option<Outcome> {
    let requests = signals::requests();
    match (requests.interrupts, requests.preemptions) {
        (0, 0) => None,
        (0, _) => Some(Outcome::Preempted),
        _ => Some(Outcome::Interrupted),
    }
}

/// The outcome of an attempt, given the request that this process received.
pub(crate) fn as_asked(outcome: Outcome, asked: Option<Outcome>) -> Outcome {
    match (outcome, asked) {
        // Ranks that fail after a request to stop count as stopped.
        (Outcome::Failed, Some(asked)) => asked,
        // If no rank is on this machine, Ctrl-C reaches the ranks as a request to save and stop.
        (Outcome::Preempted, Some(Outcome::Interrupted)) => Outcome::Interrupted,
        (outcome, _) => outcome,
    }
}

/// Records the end in `status.json` if the ranks ended before they could do so; otherwise the run would look active.
fn leave_word(run: &Path, outcome: Outcome) {
    let Ok(mut status) = Status::read(run) else { return };
    if status.outcome.is_none() {
        status.end(outcome, Some("ended by `lift run` on request, before the ranks had saved".to_owned()));
        if let Err(error) = status.write(run) {
            protocol::terminal::say(format_args!("lift: {error}"));
        }
    }
}

/// Sleeps; returns early on a request to stop.
fn rest(pause: Duration) -> Option<Outcome> {
    let start = Instant::now();
    while start.elapsed() < pause && asked().is_none() {
        std::thread::sleep(Duration::from_millis(20).min(pause));
    }
    asked()
}

fn start(plan: &LaunchPlan, report: EventLog, restarts: u32) -> Result<AttemptEnd, StartError> {
    let run = plan.run.as_deref();
    let chosen = choose_hosts(plan, report);
    // Probing the hosts may have taken a while.
    if let Some(asked) = asked() {
        return Ok(Before::of(run).without_ranks(asked, None));
    }
    let Some((hosts, ranks)) = chosen else {
        let message = Some("too few hosts answer".to_owned());
        let end = Before::of(run).without_ranks(Outcome::Failed, message);
        report.end(&end, None, None);
        return Ok(end);
    };
    let start = plan.start(hosts, ranks, restarts);
    if let Some(folder) = &start.streams {
        std::fs::create_dir_all(folder)
            .map_err(|source| StartError::Folder { path: folder.clone(), source })?;
    }
    report.start(ranks, restarts, run);
    let end = attempt(&start, run, plan.stopped_seconds, report)?;
    report.end(&end, start.streams.as_deref(), run);
    Ok(end)
}

/// The hosts of this attempt and their ranks; `None` if fewer ranks are left than `--elastic` requires.
fn choose_hosts(plan: &LaunchPlan, report: EventLog) -> Option<(Vec<Host>, usize)> {
    let Some(least) = plan.elastic else { return Some((plan.hosts.clone(), plan.ranks)) };
    let (here, gone) = hosts::present(&plan.hosts);
    let ranks = hosts::slots(&here).min(plan.ranks);
    if !gone.is_empty() {
        let names: Vec<String> = gone.into_iter().map(|host| host.name).collect();
        report.hosts_gone(&names, ranks);
    }
    (ranks >= least).then_some((here, ranks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_makes_the_outcome_and_ctrl_c_is_never_a_preemption() {
        use Outcome::{Done, Failed, Interrupted, Preempted, WrongInput};
        for (outcome, asked, expected) in [
            (Failed, None, Failed),
            (Failed, Some(Preempted), Preempted),
            (Failed, Some(Interrupted), Interrupted),
            (Preempted, None, Preempted),
            (Preempted, Some(Interrupted), Interrupted),
            (Done, Some(Interrupted), Done),
            (WrongInput, Some(Preempted), WrongInput),
        ] {
            assert_eq!(as_asked(outcome, asked), expected, "{outcome:?} {asked:?}");
        }
    }
}
