//! `lift-trainer check`: configuration, data and weights, without training.

mod backbone;
mod data;

use super::findings;
use crate::data::source::{Finding, Severity};
use crate::engine::eval::views;
use crate::engine::failure::Failure;
use crate::engine::setup::backbone::BackboneFile;
use crate::engine::setup::head_init::PreparedInit;
use crate::engine::setup::session::{load_options, tuners, zeros_note};
use crate::engine::setup::sources;
use crate::model::loading::load;
use backbone::CheckedBackbone;
use data::CheckedData;
use protocol::command_line::{OutputArguments, SelectionArguments};
use protocol::terminal;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;

/// Report of a successful check.
#[derive(Debug, Serialize)]
struct Checked {
    data: String,
    model: String,
    method: String,
    presets: String,
    #[serde(flatten)]
    set: CheckedData,
    tuner: String,
    evaluation: String,
    #[serde(flatten)]
    backbone: CheckedBackbone,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// Reads everything that a run would read, except the pixels; decodes only the first image of each split.
pub(super) fn run(select: &SelectionArguments, output_arguments: OutputArguments) -> Result<(), Failure> {
    let resolved = super::resolve(select)?;
    let config = &resolved.config;
    let data = sources::open_data(config)?;
    findings::print(&data.findings, output_arguments);
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
        tuner: tuners.to_string(),
        evaluation: views::described(config, patch).to_string(),
        backbone: CheckedBackbone::of(&file, &backbone),
        warnings: of_weight(Severity::Warning),
        notes: of_weight(Severity::Note),
    };
    print(&checked, output_arguments)
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

/// Warnings and notes have been printed to standard error already.
fn lines(value: &Value) -> String {
    let mut text = "ready to train\n".to_owned();
    let shown = |name: &str| !matches!(name, "warnings" | "notes");
    for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| shown(name)) {
        let mut name = name.replace('_', " ");
        for value in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Writing into a string cannot fail.
            let _ = writeln!(text, "  {name:<20} {value}");
            name.clear();
        }
    }
    text
}
