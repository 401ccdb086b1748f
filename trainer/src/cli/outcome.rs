//! How a result becomes words and an exit code: one error, on rank 0, and every rank ends.

use crate::engine::failure::Failure;
use crate::run::say;
use collectives::World;
use protocol::Outcome;
use protocol::terminal;
use std::process::ExitCode;

/// Help and version are answers; anything else that clap says is wrong input, said once for all ranks.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    let speaks = !error.use_stderr() || launched_rank() == 0;
    let outcome = if speaks { terminal::answer(error) } else { Outcome::WrongInput };
    ExitCode::from(outcome.exit_code())
}

/// Work of one process; where a launcher started several, the first does it.
pub(super) fn once(work: impl FnOnce() -> Result<(), Failure>) -> Result<Outcome, Failure> {
    if launched_rank() > 0 { Ok(Outcome::Done) } else { work().map(|()| Outcome::Done) }
}

/// Says what went wrong, and ends.
pub(super) fn exit(result: Result<Outcome, Failure>) -> ExitCode {
    let outcome = result.unwrap_or_else(|failure| {
        tell(&failure);
        failure.outcome
    });
    ExitCode::from(outcome.exit_code())
}

/// Work of all ranks. A failure that all share is said by rank 0; one that leaves the others waiting is
/// said by the rank that has it, and ends the job.
pub(super) fn on_world(world: &World, work: impl FnOnce() -> Result<Outcome, Failure>) -> Outcome {
    let failure = match work() {
        Ok(outcome) => return outcome,
        Err(failure) => failure,
    };
    if failure.common || world.size() == 1 {
        if world.rank() == 0 {
            tell(&failure);
        }
        return failure.outcome;
    }
    say(format_args!("rank {}: error: {failure}", world.rank()));
    match world.control() {
        Ok(control) => control.abort(i32::from(failure.outcome.exit_code())),
        Err(_) => std::process::abort(),
    }
}

fn tell(failure: &Failure) {
    say(format_args!("error: {failure}"));
}

/// This process's rank according to the launcher's variables; for commands that do not start MPI.
pub(super) fn launched_rank() -> usize {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"].into_iter().find_map(number).unwrap_or(0)
}
