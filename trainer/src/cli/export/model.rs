//! Formats that hold the model: its backbone with the tuners folded in, and its head.

use super::{ExportArguments, ExportFormat, can_be_written, cannot_write, report};
use crate::cli::{CommandContext, finished_run};
use crate::config::{
    AttentionName, BackbonePlacement, Config, DeviceName, FrozenProductsName, HeadPlacement, PrecisionName,
    Resolved,
};
use crate::data::source::Split;
use crate::data::transform::TestView;
use crate::engine::failure::{Failure, agreed};
use crate::engine::predict::AppliedRun;
use crate::engine::rank::Rank;
use crate::engine::setup::backbone::BackboneFile;
use crate::engine::setup::session::Session;
use crate::engine::setup::sources::filter;
use crate::model::Model;
use crate::model::export::{
    ExportError, ExportedFile, ExportedModel, ExportedView, FileContent, hf_clip, onnx, open_clip, peft,
    plain, timm,
};
use crate::run::say;
use crate::weights::trained;
use protocol::{Outcome, write_atomically};
use std::path::Path;
use tch::{Device, Kind, Tensor, no_grad};

/// Largest difference of a logit, relative to the largest logit, that folding may make in double precision.
const MOST_ROUNDING: f64 = 1e-9;
/// Images whose logits are compared before and after folding.
const COMPARED: i64 = 4;

/// Exports the model; every rank builds it, and rank 0 writes it.
pub(in crate::cli) fn run(
    context: &CommandContext<'_>,
    arguments: &ExportArguments,
) -> Result<Outcome, Failure> {
    let control = context.world.control().map_err(Failure::run)?;
    agreed(&control, || can_be_written(arguments))?;
    let mut resolved = finished_run::configuration_on_all_ranks(context, &arguments.run, &arguments.set)?;
    for_export(&mut resolved.config);
    let (rank, weights) = finished_run::rank_and_weights(context, &arguments.run, &resolved)?;
    let talks = rank.leads() && !context.output_arguments.quiet;
    let notes = |note: &str| {
        if talks {
            say(note);
        }
    };
    let images = Split::of_paths(Vec::new());
    let run = AppliedRun::open(&arguments.run, &weights, &resolved, images, &rank, &notes)?;
    agreed(&rank.control, || write(arguments, run.session, &resolved, &rank))?;
    if rank.leads() {
        report(&arguments.output, &weights, context.output_arguments)?;
    }
    Ok(Outcome::Done)
}

/// Folding is exact in double precision, and every rank needs the whole model.
fn for_export(config: &mut Config) {
    config.train.precision = PrecisionName::Fp64;
    config.train.attention = AttentionName::Auto;
    config.train.frozen_products = FrozenProductsName::Compute;
    config.train.device = DeviceName::Cpu;
    config.backbone.placement = BackbonePlacement::Replicated;
    config.head.placement = HeadPlacement::Replicated;
}

fn write(
    arguments: &ExportArguments,
    mut session: Session,
    resolved: &Resolved,
    rank: &Rank,
) -> Result<(), Failure> {
    let trainables = (arguments.format == ExportFormat::Peft).then(|| trained_tensors(&session.model));
    fold(&mut session.model)?;
    let view = ExportedView {
        resize: TestView::lift(session.config.model.resolution, filter(&session.config)).resize,
        filter: session.config.model.filter.to_string(),
    };
    let model = ExportedModel::of(&session.model, session.backbone, session.class_names, view);
    let files = match arguments.format {
        ExportFormat::HfClip => hf_clip::files(&model),
        ExportFormat::OpenClip => {
            let backbone = BackboneFile::open(resolved)?;
            open_clip::files(&model, &backbone.tensors)
        }
        ExportFormat::Timm => timm::files(&model),
        ExportFormat::Peft => {
            let base = resolved.config.model.weights.as_deref().unwrap_or(Path::new(""));
            peft::files(&model, &trainables.unwrap_or_default(), &base.display().to_string())
        }
        ExportFormat::Onnx => onnx::files(&model),
        ExportFormat::Safetensors | ExportFormat::Lift => Ok(plain::files(&model)),
    };
    let files = files.map_err(|error: ExportError| Failure::input(error))?;
    if rank.leads() { write_files(arguments, files) } else { Ok(()) }
}

fn trained_tensors(model: &Model) -> Vec<(String, Tensor)> {
    model.trainables().iter().map(|(name, tensor)| (name.to_owned(), tensor.detach())).collect()
}

/// Folds the tuners, and makes sure that the model still computes the same: a tuner whose effect is neither linear nor a
/// module of its own is not exported wrongly.
fn fold(model: &mut Model) -> Result<(), Failure> {
    let side = model.tower().shape().resolution;
    let values = Tensor::arange(COMPARED * 3 * side * side, (Kind::Int64, Device::Cpu));
    let images = (values * 7919).remainder(251).view([COMPARED, 3, side, side]).to_kind(Kind::Uint8);
    let before = no_grad(|| model.logits(&images));
    model.fold().map_err(Failure::input)?;
    let after = no_grad(|| model.logits(&images));
    let largest = before.abs().max().double_value(&[]).max(1.0);
    let difference = (&after - &before).abs().max().double_value(&[]) / largest;
    if difference <= MOST_ROUNDING {
        return Ok(());
    }
    Err(Failure::run(format!(
        "folding the tuners changes the logits by {difference:e} of the largest one, more than {MOST_ROUNDING:e}; the model is not exported, because this is a defect of the program"
    )))
}

fn write_files(arguments: &ExportArguments, files: Vec<ExportedFile>) -> Result<(), Failure> {
    let output = &arguments.output;
    let is_folder = arguments.format.is_folder();
    if is_folder {
        std::fs::create_dir_all(output).map_err(|error| Failure::run(cannot_write(output, error)))?;
    }
    for ExportedFile { name, content } in files {
        let path = if is_folder { output.join(name) } else { output.clone() };
        let failed = |error: std::io::Error| Failure::run(cannot_write(&path, error));
        match content {
            FileContent::Tensors(tensors, metadata) => {
                trained::write(&path, &tensors, Kind::Float, metadata).map_err(Failure::run)?;
            }
            FileContent::Json(value) => {
                write_atomically(&path, format!("{value:#}\n").as_bytes()).map_err(failed)?;
            }
            FileContent::Bytes(bytes) => write_atomically(&path, &bytes).map_err(failed)?,
        }
    }
    Ok(())
}
