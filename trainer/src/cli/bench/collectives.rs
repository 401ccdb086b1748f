//! `lift-trainer bench collectives`.

use super::arguments::CollectivesArguments;
use super::print::{bytes, or_dash, report, table, time};
use crate::bench::collectives::{CollectiveOptions, CollectiveReport, measure};
use crate::cli::CommandContext;
use crate::engine::failure::Failure;
use protocol::Outcome;
use protocol::command_line::SelectionArguments;

/// Measures over all ranks; rank 0 prints.
pub(in crate::cli) fn run(
    context: &CommandContext<'_>,
    options: &CollectivesArguments,
) -> Result<Outcome, Failure> {
    // Nothing is trained: the demo only completes the configuration.
    let [data, model, method] = ["demo", "demo", "lift"].map(str::to_owned);
    let (_, rank) = context.open(&SelectionArguments { data, model, method, set: options.set.clone() })?;
    rank.begin("measuring");
    let seconds = f64::from(options.milliseconds) / 1e3;
    let save = options.save.as_deref();
    let options =
        CollectiveOptions { max_bytes: options.max_bytes, rounds: usize::from(options.rounds), seconds };
    let found = measure(&rank, options)?;
    if rank.leads() {
        report(&found, context.output_arguments.json, save, text)?;
    }
    Ok(Outcome::Done)
}

fn text(found: &CollectiveReport) -> String {
    let CollectiveReport { backend, device, world_size, rounds, rows } = found;
    let rows = rows.iter().map(|row| {
        let bandwidth = or_dash(row.bus_bytes_per_second, |rate| format!("{}/s", bytes(rate)));
        vec![row.operation.to_owned(), bytes(row.bytes as f64), time(row.seconds), bandwidth]
    });
    let table = table(&["operation", "size", "time", "bus bandwidth"], rows);
    format!("{backend} on {device}, ranks: {world_size}, medians of {rounds} rounds\n{table}")
}
