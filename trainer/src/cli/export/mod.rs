//! `lift-trainer export`: a trained model in another program's format.

mod lift;
mod model;
mod trained;

use crate::engine::failure::Failure;
use clap::{Args, ValueEnum};
use protocol::command_line::OutputArguments;
use protocol::{terminal, write_atomically};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use trained::ExportedTensors;

pub(super) use model::run as over_ranks;

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExportArguments {
    /// Run folder; its final tensors are exported, or with --format lift those of its newest checkpoint if training has
    /// not finished
    #[arg(long)]
    pub run: PathBuf,
    /// Program that reads the model
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// File to write, or folder for a format of several files
    #[arg(short, long, value_name = "FILE|DIR")]
    pub output: PathBuf,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
    /// Set a path that has moved (model.weights); may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

const EXAMPLES: &str = "Examples:
  lift-trainer export --run runs/NAME --format onnx --output model.onnx
  lift-trainer export --run runs/NAME --format timm --output FOLDER
  lift-trainer export --run runs/NAME --format lift --output checkpoint.pth.tar
  lift-trainer eval -d DATA -m MODEL --weights checkpoint.pth.tar --set ...   evaluate it here";

/// Programs that read the exported model; each has its own module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One file with the whole model, its head and its tuners; docs/export.md has a PyTorch module for it
    Safetensors,
    /// A folder for transformers, with the image tower of a CLIP
    HfClip,
    /// A folder for the library of that name, with the text tower of the CLIP
    OpenClip,
    /// A folder for timm
    Timm,
    /// A folder for PEFT: the adapter alone
    Peft,
    /// One file for ONNX Runtime, from bytes to logits, with the tuners
    Onnx,
    /// The official LIFT code, which loads a checkpoint.pth.tar; needs neither data nor backbone nor device
    Lift,
}

impl ExportFormat {
    /// Whether the format has several files, in a folder.
    const fn is_folder(self) -> bool {
        matches!(self, Self::HfClip | Self::OpenClip | Self::Timm | Self::Peft)
    }
}

/// Exports the trained tensors for the official code.
pub(super) fn run(arguments: &ExportArguments, output_arguments: OutputArguments) -> Result<(), Failure> {
    can_be_written(arguments)?;
    if let Some(set) = arguments.set.first() {
        return Err(Failure::input(format!(
            "--set {set} has no effect with --format lift, which exports only trained tensors\nhint: leave it out"
        )));
    }
    let source = ExportedTensors::of(&arguments.run)?;
    let bytes = lift::encode(&source.tensors)?;
    let output = &arguments.output;
    write_atomically(output, &bytes).map_err(|error| Failure::run(cannot_write(output, error)))?;
    report(output, &source.path, output_arguments)
}

/// Refuses an output that cannot be written, or existing files without `--force`.
fn can_be_written(arguments: &ExportArguments) -> Result<(), Failure> {
    let ExportArguments { output, force, format, .. } = arguments;
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let reason = if output.is_dir() && !format.is_folder() {
        "it is a folder".to_owned()
    } else if output.exists() && !output.is_dir() && format.is_folder() {
        "it is a file, and the format needs a folder".to_owned()
    } else if !folder.is_dir() {
        let folder = folder.display();
        format!("there is no folder `{folder}`\nhint: create it: `mkdir -p {folder}`")
    } else if is_in_use(output) && !force {
        "it exists\nhint: choose another name, or replace it with --force".to_owned()
    } else {
        return Ok(());
    };
    Err(Failure::input(cannot_write(output, reason)))
}

/// An empty folder is not in use.
fn is_in_use(output: &Path) -> bool {
    match std::fs::read_dir(output) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => output.exists(),
    }
}

fn cannot_write(output: &Path, reason: impl Display) -> String {
    format!("--output `{}` cannot be written: {reason}", output.display())
}

fn report(output: &Path, from: &Path, output_arguments: OutputArguments) -> Result<(), Failure> {
    let (output, from) = (output.display(), from.display());
    let printed = if output_arguments.json {
        let value = serde_json::json!({ "output": output.to_string(), "source": from.to_string() });
        terminal::print_json(&format!("{value:#}\n"))
    } else if output_arguments.quiet {
        return Ok(());
    } else {
        terminal::print(&format!("wrote `{output}` from `{from}`\n"))
    };
    printed.map(drop).map_err(Failure::run)
}
