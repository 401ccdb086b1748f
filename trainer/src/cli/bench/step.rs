//! `lift-trainer bench step`.

use super::arguments::StepArguments;
use super::print::{bytes, or_dash, report, table, time};
use crate::bench::peer::{self, PeerBound, PeerOptions, PeerReport, PeerRow};
use crate::bench::snapshot::SnapshotReport;
use crate::bench::step::{StepOptions, StepReport, VariantReport, measure};
use crate::cli::CommandContext;
use crate::config::Selection;
use crate::engine::failure::Failure;
use protocol::Outcome;
use protocol::command_line::SelectionArguments;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Measures over all ranks; rank 0 prints.
pub(in crate::cli) fn run(
    context: &CommandContext<'_>,
    arguments: &StepArguments,
) -> Result<Outcome, Failure> {
    if let Some(script) = &arguments.peer {
        return peers(context, arguments, script);
    }
    let (resolved, rank) = context.open(&arguments.select)?;
    if let Some(folder) = &arguments.side {
        return peer::side::serve(&resolved, &rank, folder).map(|()| Outcome::Done);
    }
    let leads = rank.leads();
    let options = StepOptions {
        steps: usize::from(arguments.steps),
        rounds: usize::from(arguments.rounds),
        compare: arguments.compare.0.clone(),
        snapshots: usize::from(arguments.snapshots),
        folder: folder(arguments),
    };
    let SelectionArguments { data, model, method, set } = arguments.select.clone();
    let found = measure(&Selection { data, model, method, set }, rank, &options)?;
    if leads {
        report(&found, context.output_arguments.json, arguments.save.as_deref(), text)?;
    }
    Ok(Outcome::Done)
}

/// Compares with a peer. The sides are processes of their own, so this one opens nothing.
fn peers(context: &CommandContext<'_>, arguments: &StepArguments, script: &Path) -> Result<Outcome, Failure> {
    peer::check_script(script)?;
    let SelectionArguments { data, model, method, set } = &arguments.select;
    let mut selection: Vec<String> =
        ["-d", data, "-m", model, "--method", method].iter().map(|&word| word.to_owned()).collect();
    selection.extend(set.iter().flat_map(|value| ["--set".to_owned(), value.clone()]));
    let options = PeerOptions {
        script: script.to_owned(),
        python: arguments.python.clone(),
        precisions: arguments.precisions.clone(),
        steps: usize::from(arguments.steps),
        rounds: usize::from(arguments.rounds),
        selection,
        folder: folder(arguments),
    };
    let found = peer::compare(&options)?;
    report(&found, context.output_arguments.json, arguments.save.as_deref(), peer_text)?;
    Ok(Outcome::Done)
}

fn folder(arguments: &StepArguments) -> PathBuf {
    let own = || std::env::temp_dir().join(format!("lift-bench-{}", std::process::id()));
    arguments.folder.clone().unwrap_or_else(own)
}

fn peer_text(found: &PeerReport) -> String {
    let PeerReport { steps, rounds, batch_size, bounds, rows } = found;
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let row = |row: &PeerRow| {
        vec![
            row.precision.clone(),
            row.side.clone(),
            format!("{:.2}", row.images_per_second),
            format!("{:.2}", row.ratio_to_eager),
            percent(row.share_of_bound),
            bytes(row.peak_bytes),
            format!("{:.2}", row.memory_ratio_to_eager),
            format!("{:.5}", row.loss),
        ]
    };
    let headers =
        ["precision", "side", "images/s", "to eager", "of bound", "peak memory", "to eager", "loss"];
    let bound = |bound: &PeerBound| {
        let PeerBound { precision, images_per_second, plain_images_per_second } = bound;
        format!(
            "{images_per_second:.2} in {precision} ({plain_images_per_second:.2} as libtorch computes them by itself)"
        )
    };
    let bounds: Vec<String> = bounds.iter().map(bound).collect();
    format!(
        "batch {batch_size}; medians of {steps} steps in each of {rounds} rounds, taking turns\n{}matrix products alone, images/s: {}\n",
        table(&headers, rows.iter().map(row)),
        bounds.join(", ")
    )
}

fn text(found: &StepReport) -> String {
    let StepReport { data, model, method, backend, device, world_size, steps, rounds, .. } = found;
    let head = format!("{method} on {data} with {model}: {backend} on {device}, ranks: {world_size}");
    let medians = format!("medians of {steps} steps in each of {rounds} rounds, taking turns");
    let mut rows = vec![row("selected", &found.selected)];
    for comparison in &found.comparisons {
        let named = |variant| row(comparison.name, variant);
        rows.extend(comparison.variants.iter().map(named));
    }
    let headers = [
        "setting",
        "threads",
        "batch",
        "step",
        "data wait",
        "forward+backward",
        "exposed",
        "imbalance",
        "optimiser",
        "sent",
        "ratio",
    ];
    let mut text = format!("{head}; {medians}\n{}", table(&headers, rows));
    if let Some(memory) = found.gpu_memory {
        let [allocated, reserved] =
            [memory.peak_allocated_bytes, memory.peak_reserved_bytes].map(|size| bytes(size as f64));
        let _ =
            writeln!(text, "GPU memory of the selected setting: {allocated} of tensors, {reserved} reserved");
    }
    let all = found.comparisons.iter().flat_map(|comparison| &comparison.variants);
    for (variant, why) in all.filter_map(|variant| Some((variant, variant.unavailable.as_ref()?))) {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{} is not available here: {why}", variant.name);
    }
    text + &found.checkpoint.as_ref().map(snapshot).unwrap_or_default()
}

fn row(comparison: &str, variant: &VariantReport) -> Vec<String> {
    let name = if comparison == variant.name {
        comparison.to_owned()
    } else {
        format!("{comparison} {}", variant.name)
    };
    let figures = variant.figures.as_ref();
    let seconds = |part: &dyn Fn(&crate::bench::step::StepFigures) -> f64| or_dash(figures.map(part), time);
    vec![
        name,
        variant.threads.to_string(),
        variant.batch_size.to_string(),
        seconds(&|f| f.step_seconds),
        seconds(&|f| f.data_wait_seconds),
        seconds(&|f| f.forward_backward_seconds),
        seconds(&|f| f.exposed_seconds),
        seconds(&|f| f.imbalance_seconds),
        seconds(&|f| f.optimiser_seconds),
        or_dash(figures.map(|f| f.bytes), bytes),
        or_dash(variant.ratio, |ratio| format!("{ratio:.3}")),
    ]
}

fn snapshot(found: &SnapshotReport) -> String {
    let SnapshotReport { first_seconds, seconds, written_seconds, bytes: size, .. } = found;
    format!(
        "a checkpoint of {}: {} of the step's thread (the first: {}), {:.3} % of 30 s (limit 0.5 %: {}); on disk after {}\n",
        bytes(*size as f64),
        time(*seconds),
        time(*first_seconds),
        found.share_of_30_seconds * 100.0,
        if found.within_limit { "met" } else { "missed" },
        time(*written_seconds),
    )
}
