//! Turns a result into a message and an exit code: rank 0 reports the error once, and every rank ends.

use crate::engine::failure::Failure;
use crate::run::say;
use collectives::World;
use protocol::Outcome;
use protocol::terminal;
use std::process::ExitCode;

/// Help and version are results; anything else from clap is wrong input, reported once for all ranks.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    let speaks = !error.use_stderr() || launched_rank() == 0;
    let outcome = if speaks { terminal::answer(error) } else { Outcome::WrongInput };
    ExitCode::from(outcome.exit_code())
}

/// Runs the work of one process; if a launcher started several, only the first runs it.
pub(super) fn once(work: impl FnOnce() -> Result<(), Failure>) -> Result<Outcome, Failure> {
    if launched_rank() > 0 { Ok(Outcome::Done) } else { work().map(|()| Outcome::Done) }
}

/// Reports a failure and returns the exit code.
pub(super) fn exit(result: Result<Outcome, Failure>) -> ExitCode {
    let outcome = result.unwrap_or_else(|failure| {
        report(&failure);
        failure.outcome
    });
    ExitCode::from(outcome.exit_code())
}

/// Runs the work of all ranks. Rank 0 reports a failure that all ranks share. A failure of one rank leaves the others
/// waiting, so that rank reports it and aborts the job.
pub(super) fn on_world(world: &World, work: impl FnOnce() -> Result<Outcome, Failure>) -> Outcome {
    let failure = match work() {
        Ok(outcome) => return outcome,
        Err(failure) => failure,
    };
    if failure.common || world.size() == 1 {
        if world.rank() == 0 {
            report(&failure);
        }
        return failure.outcome;
    }
    say(format_args!("rank {}: error: {failure}", world.rank()));
    match world.control() {
        Ok(control) => control.abort(i32::from(failure.outcome.exit_code())),
        Err(_) => std::process::abort(),
    }
}

fn report(failure: &Failure) {
    say(format_args!("error: {failure}"));
}

/// Rank of this process according to the launcher's variables; for commands that do not start MPI.
pub(super) fn launched_rank() -> usize {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"].into_iter().find_map(number).unwrap_or(0)
}
