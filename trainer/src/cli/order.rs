//! `lift-trainer order`: the sample, rank and step of each position, without a model.

use super::arguments::OrderArguments;
use super::findings;
use crate::data::order::shard::step_and_rank;
use crate::engine::failure::Failure;
use crate::engine::setup::sources;
use protocol::command_line::OutputArguments;
use protocol::terminal::{OutputReader, print_json};
use serde::Serialize;

/// One line of the output.
#[derive(Serialize)]
struct OrderLine {
    epoch: u64,
    position: u64,
    sample: u64,
    label: u32,
    rank: u64,
    step: u64,
}

/// Positions per write.
const CHUNK: u64 = 4096;

/// Prints one JSON line per position, with or without `--json`. `step` is counted from 1 over the whole run, as in
/// `metrics.jsonl`.
pub(super) fn run(arguments: &OrderArguments, output_arguments: OutputArguments) -> Result<(), Failure> {
    let config = super::resolve_for_images(&arguments.select)?.config;
    let data = sources::open_data(&config)?;
    findings::print(&data.findings, output_arguments);
    let order = sources::open_order(&config, data.train.labels(), data.class_names.len())?;
    let (epoch, batch, world) = (arguments.epoch, config.train.batch_size, arguments.world);
    if batch < world {
        let message = format!(
            "train.batch_size is {batch}, less than --world {world}\nhint: raise one or lower the other"
        );
        return Err(Failure::input(message));
    }
    let len = order.len(epoch);
    let steps_before: u64 = (0..epoch).map(|e| order.len(e).div_ceil(batch)).sum();
    let end = arguments.count.map_or(len, |count| arguments.from.saturating_add(count).min(len));
    let (mut samples, mut lines) = (Vec::new(), String::new());
    let mut start = arguments.from.min(end);
    while start < end {
        let stop = (start + CHUNK).min(end);
        order.fill(epoch, start..stop, &mut samples);
        for (position, &sample) in (start..stop).zip(&samples) {
            let (step, rank) = step_and_rank(len, batch, world, position);
            let label = data.train.labels()[sample as usize];
            let line = OrderLine { epoch, position, sample, label, rank, step: steps_before + step + 1 };
            lines.push_str(&serde_json::to_string(&line).map_err(Failure::run)?);
            lines.push('\n');
        }
        // The reader has closed the pipe, as in `| head`.
        if print_json(&lines).map_err(Failure::run)? == OutputReader::Left {
            break;
        }
        lines.clear();
        start = stop;
    }
    Ok(())
}
