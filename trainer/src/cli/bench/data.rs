//! `lift-trainer bench data`.

use super::arguments::DataArguments;
use super::print::{bytes, or_dash, report, table};
use crate::bench::data::{DataOptions, LoaderSpeed, folder, measure};
use crate::bench::memory::Resident;
use crate::config::DecodeName;
use crate::data::resize::Filter;
use crate::data::source::Split;
use crate::data::transform::{DecodeMode, ImageView, TrainView};
use crate::engine::failure::Failure;
use crate::engine::setup::sources;
use protocol::command_line::OutputArguments;
use serde::Serialize;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// Size of the square, if neither the command line nor a preset says it.
const RESOLUTION: u32 = 224;

/// The figures of one measurement.
#[derive(Debug, Serialize)]
struct DataReport {
    /// Those of the last row.
    images_per_second: f64,
    source: String,
    images_in_source: usize,
    resolution: u32,
    filter: String,
    decode: String,
    batch_size: u64,
    rows: Vec<LoaderSpeed>,
    /// Most memory that the process has had, libraries included.
    peak_memory_bytes: Option<u64>,
}

/// Measures and prints.
pub(in crate::cli) fn run(
    arguments: &DataArguments,
    output_arguments: OutputArguments,
) -> Result<(), Failure> {
    let (source, split, (resolution, filter)) = source(arguments)?;
    let resolution = arguments.resolution.unwrap_or(resolution);
    let decode = match arguments.decode {
        DecodeName::Exact => DecodeMode::Exact,
        DecodeName::Fast => DecodeMode::Fast,
    };
    let view = ImageView::Train(TrainView { size: resolution, filter, seed: 0, decode });
    let time = Duration::from_secs_f64(arguments.seconds);
    let options = DataOptions { view, batch_size: arguments.batch_size, time };
    let split = Arc::new(split);
    let rows = measure(&split, options, &threads(arguments.threads)).map_err(Failure::input)?;
    let found = DataReport {
        images_per_second: rows.last().map_or(0.0, |row| row.images_per_second),
        source,
        images_in_source: split.len(),
        resolution,
        filter: format!("{filter:?}").to_lowercase(),
        decode: arguments.decode.to_string(),
        batch_size: arguments.batch_size,
        rows,
        peak_memory_bytes: Resident::read().map(|memory| memory.peak),
    };
    report(&found, output_arguments.json, arguments.save.as_deref(), text)
}

/// Name and images of what is loaded, with the default size and filter.
fn source(arguments: &DataArguments) -> Result<(String, Split, (u32, Filter)), Failure> {
    if let Some(images) = &arguments.images {
        let split = folder(images).map_err(Failure::input)?;
        return Ok((images.display().to_string(), split, (RESOLUTION, Filter::Bicubic)));
    }
    let resolved = crate::cli::resolve_for_images(&arguments.select)?;
    let split = sources::open_data(&resolved.config)?.train;
    let input = (resolved.config.model.resolution, sources::filter(&resolved.config));
    Ok((resolved.names.data, split, input))
}

/// The given number of threads, or one and all.
fn threads(given: Option<u16>) -> Vec<usize> {
    if let Some(threads) = given {
        return vec![usize::from(threads)];
    }
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let mut threads = vec![1, all];
    threads.dedup();
    threads
}

fn text(found: &DataReport) -> String {
    let DataReport { source, images_in_source, resolution, filter, decode, .. } = found;
    let mut text = format!(
        "train view {resolution}, {filter}, decode {decode}; {images_in_source} images of {source}; ms per image and thread\n"
    );
    let rows = found.rows.iter().map(|row| {
        let stages = row.milliseconds;
        let stage = |time: f64| format!("{time:.3}");
        vec![
            row.threads.to_string(),
            format!("{:.0}", row.images_per_second),
            stage(stages.read),
            stage(stages.decode),
            stage(stages.transform),
        ]
    });
    text += &table(&["threads", "img/s", "read", "decode", "transform"], rows);
    let memory = or_dash(found.peak_memory_bytes.map(|size| size as f64), bytes);
    // Writing into a string cannot fail.
    let _ = writeln!(text, "peak memory of the process, batches of {}: {memory}", found.batch_size);
    let failed: u64 = found.rows.iter().map(|row| row.failed).sum();
    if failed > 0 {
        let _ = writeln!(text, "{failed} times, an image could not be read");
    }
    text
}
