//! `lift-trainer check`: configuration, data and weights, without training.

mod backbone;
mod data;

use super::findings;
use super::pack::threads;
use super::work_progress::WorkProgress;
use crate::data::source::{DataSet, Finding, Severity};
use crate::data::survey::survey;
use crate::engine::eval::views;
use crate::engine::failure::Failure;
use crate::engine::setup::backbone::BackboneFile;
use crate::engine::setup::head_init::PreparedInit;
use crate::engine::setup::session::{load_options, tuners, zeros_note};
use crate::engine::setup::sources;
use crate::model::loading::load;
use backbone::CheckedBackbone;
use clap::Args;
use data::CheckedData;
use protocol::command_line::{OutputArguments, SelectionArguments};
use protocol::numbers::grouped;
use protocol::terminal;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// What to check
    #[command(flatten)]
    pub select: SelectionArguments,
    /// Decode every image on all cores and list those that cannot be read
    #[arg(long)]
    pub decode_all: bool,
}

/// Report of a successful check.
#[derive(Debug, Serialize)]
struct Checked {
    data: String,
    model: String,
    method: String,
    presets: String,
    #[serde(flatten)]
    set: CheckedData,
    /// Images that were decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    decoded_images: Option<usize>,
    /// Images that cannot be read, within the allowed limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    bad_images: Option<usize>,
    tuner: String,
    evaluation: String,
    #[serde(flatten)]
    backbone: CheckedBackbone,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// Reads everything that a run would read, except the pixels; decodes only the first image of each split, unless all are
/// asked for.
pub(super) fn run(arguments: &CheckArguments, output_arguments: OutputArguments) -> Result<(), Failure> {
    let resolved = super::resolve(&arguments.select)?;
    let config = &resolved.config;
    let data = sources::open_data(config)?;
    findings::print(&data.findings, output_arguments);
    let bad_images = if arguments.decode_all {
        Some(decode_all(&data, config.data.max_bad_images, output_arguments)?)
    } else {
        None
    };
    let missing = data::look_at(config, &data)?;
    let classes = data.class_names.len();
    sources::open_order(config, data.train.labels(), classes)?;
    let file = BackboneFile::open(&resolved)?;
    let tuners = tuners(config, &file, classes)?;
    let options = load_options(config, &file, tch::Device::Cpu);
    let backbone = load(&file.tensors, file.layout, &options, &tuners).map_err(Failure::input)?;
    let labelled = (data.class_names.as_slice(), &data.train);
    PreparedInit::choose(config, backbone.text.is_some(), labelled, Some(file.width()?))?;
    let patch = u32::try_from(backbone.vision.shape().patch).unwrap_or(u32::MAX);
    let about_weights: Vec<Finding> =
        file.notes.iter().cloned().chain(zeros_note(&backbone.all_zero)).map(Finding::note).collect();
    findings::print(&about_weights, output_arguments);
    let all = [data.findings.as_slice(), &about_weights].concat();
    let of_weight =
        |weight| all.iter().filter(|found| found.weight == weight).map(|found| found.text.clone()).collect();
    let checked = Checked {
        data: resolved.names.data.clone(),
        model: resolved.names.model.clone(),
        method: resolved.names.method.clone(),
        presets: resolved.presets.to_string(),
        set: CheckedData::of(&data, config, backbone.text.is_some(), missing)?,
        decoded_images: bad_images.map(|_| data.train.len() + data.test.len()),
        bad_images,
        tuner: tuners.to_string(),
        evaluation: views::described(config, patch).to_string(),
        backbone: CheckedBackbone::of(&file, &backbone),
        warnings: of_weight(Severity::Warning),
        notes: of_weight(Severity::Note),
    };
    print(&checked, output_arguments)
}

/// Decodes every image and lists those that cannot be read. Returns how many they are, if not more than `most`.
fn decode_all(set: &DataSet, most: u64, output_arguments: OutputArguments) -> Result<usize, Failure> {
    let mut bad = 0;
    for split in [&set.train, &set.test] {
        let progress = WorkProgress::start("decoding", split.len(), output_arguments.quiet);
        let surveyed = survey(split, threads(0), &|count| progress.add(count));
        progress.finish();
        for (index, reason) in &surveyed.broken {
            terminal::say(format_args!("warning: image `{}`: {reason}", split.name(*index)));
        }
        bad += surveyed.broken.len();
    }
    if bad as u64 > most {
        return Err(Failure::input(format!(
            "{bad} of {} images cannot be read, at most {most} are allowed\nhint: repair or remove them, or raise `data.max_bad_images`",
            set.train.len() + set.test.len()
        )));
    }
    Ok(bad)
}

/// Prints JSON, or one line per checked item; with `--quiet`, only the exit code reports success.
fn print(checked: &Checked, output_arguments: OutputArguments) -> Result<(), Failure> {
    let value = serde_json::to_value(checked).map_err(Failure::run)?;
    let printed = if output_arguments.json {
        terminal::print_json(&format!("{value:#}\n"))
    } else if output_arguments.quiet {
        return Ok(());
    } else {
        terminal::print(&lines(&value))
    };
    printed.map(drop).map_err(Failure::run)
}

/// Text as it is, and whole numbers with separators.
fn for_people(value: &Value) -> String {
    match (value.as_str(), value.as_u64()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(number)) => grouped(number),
        (None, None) => value.to_string(),
    }
}

/// Warnings and notes have been printed to standard error already.
fn lines(value: &Value) -> String {
    let mut text = "ready to train\n".to_owned();
    let shown = |name: &str| !matches!(name, "warnings" | "notes");
    for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| shown(name)) {
        let mut name = name.replace('_', " ");
        for value in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
            let value = for_people(value);
            // Writing into a string cannot fail.
            let _ = writeln!(text, "  {name:<20} {value}");
            name.clear();
        }
    }
    text
}
