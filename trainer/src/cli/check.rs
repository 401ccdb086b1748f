//! `lift-trainer check`: configuration, data and weights, without training.

use super::arguments::{Select, Talk};
use crate::data::source::counts;
use crate::engine::failure::Failure;
use crate::engine::session::{load_options, tuner};
use crate::engine::sources;
use crate::model::loading::load;
use launcher::terminal;
use serde::Serialize;
use std::fmt::Write as _;

/// What was found to be in order.
#[derive(Debug, Serialize)]
struct Checked {
    data: String,
    model: String,
    method: String,
    presets: String,
    classes: usize,
    train_images: usize,
    test_images: usize,
    largest_class: u64,
    smallest_class: u64,
    blocks: usize,
    width: i64,
    tuner: String,
    weights_fingerprint: String,
}

/// Reads all that a run would read, but for the pixels of every image; the first image of each split is decoded.
pub(super) fn run(select: &Select, talk: Talk) -> Result<(), Failure> {
    let resolved = super::resolve(select)?;
    let config = &resolved.config;
    let data = sources::open_data(config)?;
    for split in [&data.train, &data.test] {
        split.verify().map_err(Failure::input)?;
        split.read(0).map_err(Failure::input)?;
    }
    let classes = data.class_names.len();
    sources::open_order(config, data.train.labels(), classes)?;
    let (tensors, layout) = sources::open_weights(config)?;
    let tuner = tuner(config, &tensors, layout, classes)?;
    let options = load_options(config, &tuner, tch::Device::Cpu);
    let backbone = load(&tensors, layout, &options).map_err(Failure::input)?;
    let per_class = counts(data.train.labels(), classes);
    let checked = Checked {
        data: resolved.names.data.clone(),
        model: resolved.names.model.clone(),
        method: resolved.names.method.clone(),
        presets: resolved.presets.to_string(),
        classes,
        train_images: data.train.len(),
        test_images: data.test.len(),
        largest_class: per_class.iter().copied().max().unwrap_or(0),
        smallest_class: per_class.iter().copied().min().unwrap_or(0),
        blocks: backbone.vision.blocks.len(),
        width: backbone.vision.shape.width,
        tuner: format!("{tuner:?}"),
        weights_fingerprint: tensors.fingerprint(),
    };
    print(&checked, talk)
}

fn print(checked: &Checked, talk: Talk) -> Result<(), Failure> {
    let value = serde_json::to_value(checked).map_err(Failure::run)?;
    let mut text = if talk.json { format!("{value:#}\n") } else { "ready to train\n".to_owned() };
    for (name, value) in value.as_object().into_iter().flatten().filter(|_| !talk.json) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  {:<20} {value}", name.replace('_', " "));
    }
    let printed = if talk.json { terminal::print_json(&text) } else { terminal::print(&text) };
    printed.map(drop).map_err(Failure::run)
}
