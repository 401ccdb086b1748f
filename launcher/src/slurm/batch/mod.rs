//! `lift job`: runs the ranks inside the allocation of a batch script, and requeues the job.
//!
//! Restarts, outcomes and first failures follow the rules of `lift run` (`run::{restart, end, first_failure}`). The
//! difference: Slurm restarts the job in another process, so the state for the next attempt is in the run folder.

mod allocation;
mod arguments;
mod launch;
mod ranks;
mod requeue;

use super::SlurmError;
use crate::run::end::{AttemptEnd, Before, newest_checkpoint};
use crate::run::restart::{NoRestart, RestartDecision, no_gain};
use crate::run::{StartError, as_asked, asked, signals};
use allocation::Allocation;
use launch::Launch;
use protocol::terminal::{escaped_line, say};
use protocol::{Outcome, layout};
use ranks::Silence;
use requeue::Requeue;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Options of `lift job`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// File of argument lists: task N of an array takes line N
    #[arg(long, value_name = "FILE")]
    pub sweep: Option<PathBuf>,
    /// Arguments of lift-trainer; none trains the embedded demo
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub arguments: Vec<OsString>,
}

/// Runs the ranks of this job, and requeues the job if that can help.
pub fn run(options: &Options) -> Result<Outcome, SlurmError> {
    signals::record().map_err(|errno| StartError::Watch(errno.into()))?;
    let allocation = Allocation::read(|name| std::env::var(name).ok())?;
    let words = arguments::typed(options.sweep.as_deref(), &options.arguments, &allocation)?;
    let (arguments, run) = arguments::completed(words, &allocation)?;
    let run = run.as_deref();
    run.map(prepare).transpose()?;
    let launch = Launch::choose(&allocation)?;
    let folder = run.map(|run| format!(", run folder {}", run.display())).unwrap_or_default();
    let Allocation { job, restarts, ranks, nodes, .. } = &allocation;
    say(format_args!("lift: start {restarts} of job {job}: {ranks} ranks on {nodes} nodes{folder}"));
    launch.pass_step_numbers();
    let mut requeue = Requeue::new(&allocation, &arguments, run);
    if ranks::wants_save() {
        say("lift: stopped on request before the ranks had started");
        return Ok(if asked() == Some(Outcome::Interrupted) {
            Outcome::Interrupted
        } else {
            requeue.put_back();
            Outcome::Preempted
        });
    }
    let before = Before::of(run);
    let silence = run.zip(allocation.hang_seconds).map(|(run, seconds)| Silence::of(run, seconds));
    let (code, rank) = ranks::run(&launch, arguments.list(), silence.as_ref())?;
    let end = before.end(code, rank);
    Ok(decide(&end, &launch, run, &mut requeue))
}

/// Creates the log folder, and removes marks that were meant for an earlier attempt.
fn prepare(run: &Path) -> Result<(), SlurmError> {
    let logs = run.join(layout::LOGS);
    std::fs::create_dir_all(&logs).map_err(|source| SlurmError::File {
        operation: "create",
        path: logs.clone(),
        source,
    })?;
    match std::fs::remove_file(logs.join(layout::CANCELLED)) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(SlurmError::File { operation: "remove", path: logs.join(layout::CANCELLED), source })
        }
        _ => Ok(()),
    }
}

/// Reports how the ranks ended, and requeues the job if another attempt may make progress.
fn decide(end: &AttemptEnd, launch: &Launch, run: Option<&Path>, requeue: &mut Requeue<'_>) -> Outcome {
    // After TERM, Slurm decides about the job: it has sent the signal to the ranks itself.
    let wish = if ranks::wants_save() { asked() } else { None };
    let outcome = as_asked(end.outcome, wish);
    match end.outcome {
        Outcome::WrongInput => say("lift: wrong input; not requeued"),
        Outcome::Preempted => say(format_args!("lift: saved and stopped after step {}", end.step)),
        Outcome::Failed => report_failure(end, launch.program, run),
        _ => {}
    }
    match outcome {
        Outcome::Interrupted => say("lift: interrupted on request; not requeued"),
        Outcome::Preempted | Outcome::Failed if ranks::is_ended_by_slurm() => {
            // A requeue would undo a scancel.
            say("lift: Slurm ends this job; it decides whether to start it again");
        }
        _ => match requeue.next(outcome, end) {
            RestartDecision::Restart(_) => requeue.put_back(),
            RestartDecision::Stop(NoRestart::Ended) => {}
            RestartDecision::Stop(NoRestart::Limit(most)) => requeue.refuse_for_limit(most),
            RestartDecision::Stop(NoRestart::NoGain(step)) => {
                say(format_args!("lift: not requeued: {}", no_gain(step)));
            }
        },
    }
    outcome
}

fn report_failure(end: &AttemptEnd, launcher: &str, run: Option<&Path>) {
    let message = end.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    say(format_args!("lift: failed (exit code {} of {launcher}){message}", end.code));
    if let Some(rank) = end.first_failure() {
        say(format_args!("lift: rank {rank} failed first"));
    }
    if let Some((log, lines)) = end.last_log_lines(None, run) {
        say(format_args!("lift: last lines of {}:", log.display()));
        for line in lines {
            say(format_args!("    {}", escaped_line(&line)));
        }
    }
}
