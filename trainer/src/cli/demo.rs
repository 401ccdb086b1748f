//! The embedded demo: alone, or several methods side by side.

use super::Context;
use super::arguments::Demo;
use super::train;
use crate::engine::experiment::Ended;
use crate::engine::failure::Failure;
use crate::engine::resume::Wish;
use crate::run::{RunResult, print_comparison, say};
use protocol::Outcome;
use protocol::command_line::{Select, Train};

const NAME: &str = "demo";

/// What `lift-trainer` alone does: LIFT on the embedded demo.
pub(super) fn embedded(context: &Context<'_>) -> Result<Outcome, Failure> {
    let select = select("lift", &[]);
    train::run(
        context,
        &Train { select, output: None, resume: None, allow_changed: Vec::new(), predictions: None },
    )
}

/// Trains each method, and prints one table.
pub(super) fn run(context: &Context<'_>, arguments: &Demo) -> Result<Outcome, Failure> {
    let mut results = Vec::new();
    for method in &arguments.methods {
        let output = arguments.output.as_ref().map(|folder| folder.join(method));
        match train::once(context, &select(method, &arguments.set), output.as_deref(), Wish::never(), None)? {
            Ended::Done(result, _) => results.push(*result),
            Ended::Finished(_) => {}
            Ended::Stopped(outcome) => return Ok(outcome),
        }
    }
    print(context, &results);
    Ok(Outcome::Done)
}

fn select(method: &str, set: &[String]) -> Select {
    Select { data: NAME.to_owned(), model: NAME.to_owned(), method: method.to_owned(), set: set.to_vec() }
}

fn print(context: &Context<'_>, results: &[RunResult]) {
    if context.world.rank() == 0
        && let Err(error) = print_comparison(results, context.talk.json)
    {
        // The runs are done, and each has its result in its folder.
        say(format_args!("warning: {error}; the results are in the run folders"));
    }
}
