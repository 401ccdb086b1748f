//! `lift-trainer check`: configuration, data and weights, without training.

use super::arguments::{Select, Talk};
use crate::data::source::counts;
use crate::engine::backbone::BackboneFile;
use crate::engine::bad_images::{Images, missing_files};
use crate::engine::failure::Failure;
use crate::engine::session::{load_options, tuner, zeros_note};
use crate::engine::sources;
use crate::model::backbone_config::BackboneConfig;
use crate::model::loading::{Backbone, load};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};

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
    missing_images: usize,
    largest_class: u64,
    smallest_class: u64,
    tuner: String,
    #[serde(flatten)]
    backbone: BackboneReport,
}

/// The backbone as it will be computed.
#[derive(Debug, Serialize)]
struct BackboneReport {
    family: String,
    width: i64,
    blocks: usize,
    heads: i64,
    patch: i64,
    activation: String,
    pooling: String,
    norm_epsilon: f64,
    text_tower: String,
    resolution: u32,
    pixel_mean: [f64; 3],
    pixel_std: [f64; 3],
    backbone_parameters: u64,
    weights_fingerprint: String,
    notes: Vec<String>,
}

impl BackboneReport {
    fn new(file: BackboneFile, backbone: &Backbone) -> Self {
        let BackboneConfig { vision, pool, resolution, pixels, .. } = &file.config;
        let shape = backbone.vision.shape;
        let text = backbone.text.as_ref().map_or_else(
            || "none".to_owned(),
            |text| format!("{} blocks of width {}", text.blocks.len(), text.positions.size()[1]),
        );
        let parameters = file.tensors.names().filter_map(|name| file.tensors.get(name).ok());
        let mut notes = file.notes;
        notes.extend(zeros_note(&backbone.all_zero));
        Self {
            family: file.layout.to_string(),
            width: shape.width,
            blocks: shape.layers,
            heads: vision.heads,
            patch: shape.patch,
            activation: vision.activation.to_string(),
            pooling: pool.to_string(),
            norm_epsilon: vision.norm_eps,
            text_tower: text,
            resolution: *resolution,
            pixel_mean: pixels.mean,
            pixel_std: pixels.std,
            backbone_parameters: parameters.map(|tensor| tensor.numel() as u64).sum(),
            weights_fingerprint: file.fingerprint,
            notes,
        }
    }
}

/// Reads all that a run would read, but for the pixels of every image; the first image of each split is decoded.
pub(super) fn run(select: &Select, talk: Talk) -> Result<(), Failure> {
    let resolved = super::resolve(select)?;
    let config = &resolved.config;
    let data = sources::open_data(config)?;
    let missing = missing_files(config, &data, &[Images::Training, Images::Test])?;
    for split in [&data.train, &data.test] {
        split.read(0).map_err(Failure::input)?;
    }
    let classes = data.class_names.len();
    sources::open_order(config, data.train.labels(), classes)?;
    let file = BackboneFile::open(&resolved)?;
    let tuner = tuner(config, &file, classes)?;
    let options = load_options(config, &tuner, &file, tch::Device::Cpu);
    let backbone = load(&file.tensors, file.layout, &options).map_err(Failure::input)?;
    let per_class = counts(data.train.labels(), classes);
    let checked = Checked {
        data: resolved.names.data.clone(),
        model: resolved.names.model.clone(),
        method: resolved.names.method.clone(),
        presets: resolved.presets.to_string(),
        classes,
        train_images: data.train.len(),
        test_images: data.test.len(),
        missing_images: missing.len(),
        largest_class: per_class.iter().copied().max().unwrap_or(0),
        smallest_class: per_class.iter().copied().min().unwrap_or(0),
        tuner: format!("{tuner:?}"),
        backbone: BackboneReport::new(file, &backbone),
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
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::run(error)),
        _ => Ok(()),
    }
}
