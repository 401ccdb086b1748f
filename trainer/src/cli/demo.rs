//! The embedded demo, with one method or a comparison of several.

use super::CommandContext;
use super::arguments::DemoArguments;
use super::train;
use crate::engine::failure::Failure;
use crate::engine::training::experiment::RunEnd;
use crate::engine::training::resume::ResumeRequest;
use crate::run::{RunResult, print_comparison, say};
use protocol::Outcome;
use protocol::command_line::{SelectionArguments, TrainArguments};

const NAME: &str = "demo";

/// Runs LIFT on the embedded demo, the default of `lift-trainer` without arguments.
pub(super) fn embedded(context: &CommandContext<'_>) -> Result<Outcome, Failure> {
    let select = select("lift", &[]);
    train::run(
        context,
        &TrainArguments { select, output: None, resume: None, allow_changed: Vec::new(), predictions: None },
    )
}

/// Trains each method and prints a comparison table.
pub(super) fn run(context: &CommandContext<'_>, arguments: &DemoArguments) -> Result<Outcome, Failure> {
    let mut results = Vec::new();
    for method in &arguments.methods {
        let output = arguments.output.as_ref().map(|folder| folder.join(method));
        match train::once(
            context,
            &select(method, &arguments.set),
            output.as_deref(),
            ResumeRequest::never(),
            None,
        )? {
            RunEnd::Done(result, _) => results.push(*result),
            RunEnd::Finished(_) => {}
            RunEnd::Stopped(outcome) => return Ok(outcome),
        }
    }
    print(context, &results);
    Ok(Outcome::Done)
}

fn select(method: &str, set: &[String]) -> SelectionArguments {
    SelectionArguments {
        data: NAME.to_owned(),
        model: NAME.to_owned(),
        method: method.to_owned(),
        set: set.to_vec(),
    }
}

fn print(context: &CommandContext<'_>, results: &[RunResult]) {
    if context.world.rank() == 0
        && let Err(error) = print_comparison(results, context.output_arguments.json)
    {
        // The runs are done, and each folder has its result.
        say(format_args!("warning: {error}; the results are in the run folders"));
    }
}
