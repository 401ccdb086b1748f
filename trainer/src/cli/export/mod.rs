//! `lift-trainer export`: the trained tensors of a run in another program's format.

mod lift;

use crate::engine::failure::Failure;
use crate::engine::training::saver::MOMENTUM;
use crate::run::checkpoint::{CheckpointReader, FoundCheckpoint};
use crate::run::say;
use crate::weights::host_tensor::HostTensor;
use crate::weights::trained::TrainedFile;
use clap::{Args, ValueEnum};
use protocol::command_line::OutputArguments;
use protocol::terminal;
use protocol::{layout, write_atomically};
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExportArguments {
    /// Run folder; its final tensors are exported, or those of its newest checkpoint if training has not finished
    #[arg(long)]
    pub run: PathBuf,
    /// Program that reads the file
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    pub force: bool,
}

const EXAMPLES: &str = "Examples:
  lift-trainer export --run runs/NAME --format lift --output checkpoint.pth.tar
  lift-trainer eval -d DATA -m MODEL --weights checkpoint.pth.tar --set ...   evaluate it here";

/// Programs that read the exported file; each has its own module here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// The official LIFT code, which loads a checkpoint.pth.tar
    Lift,
}

impl ExportFormat {
    /// Encodes the trained tensors as the content of the file.
    fn encode(self, tensors: &BTreeMap<String, HostTensor>) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Lift => lift::encode(tensors),
        }
    }
}

/// The trained tensors of a run, and the file or folder they come from.
struct ExportedTensors {
    path: PathBuf,
    tensors: BTreeMap<String, HostTensor>,
}

/// Exports the trained tensors; needs neither data nor backbone nor device.
pub(super) fn run(arguments: &ExportArguments, output_arguments: OutputArguments) -> Result<(), Failure> {
    let ExportArguments { run, format, output, force } = arguments;
    can_be_written(output, *force)?;
    let source = if run.join(layout::FINAL_WEIGHTS).exists() { finished(run)? } else { unfinished(run)? };
    let bytes = format.encode(&source.tensors)?;
    write_atomically(output, &bytes).map_err(|error| Failure::run(cannot_write(output, error)))?;
    report(arguments, &source, output_arguments)
}

fn finished(run: &Path) -> Result<ExportedTensors, Failure> {
    let path = run.join(layout::FINAL_WEIGHTS);
    let file = TrainedFile::read(&path).map_err(Failure::input)?;
    Ok(ExportedTensors { tensors: file.tensors().clone(), path })
}

/// The newest checkpoint of a run whose training has not finished, with a warning.
fn unfinished(run: &Path) -> Result<ExportedTensors, Failure> {
    let reader = CheckpointReader::new(&run.join(layout::CHECKPOINTS));
    let found: Option<FoundCheckpoint<IgnoredAny>> = reader.newest().map_err(Failure::of_checkpoint)?;
    let Some(FoundCheckpoint { snapshot, path, skipped }) = found else {
        return Err(Failure::input(format!(
            "`{}` has neither {} nor a checkpoint; --run needs the folder of a run that has trained",
            run.display(),
            layout::FINAL_WEIGHTS
        )));
    };
    for (path, reason) in skipped {
        say(format_args!("warning: `{}` cannot be used: {reason}", path.display()));
    }
    say(format_args!(
        "warning: the training of the run has not finished; its newest checkpoint is exported, of step {}",
        snapshot.step
    ));
    let trained = snapshot.tensors.into_iter().filter(|tensor| !tensor.name.starts_with(MOMENTUM));
    let tensors = trained.map(|tensor| {
        let values = HostTensor { dtype: tensor.dtype.into(), shape: tensor.shape, bytes: tensor.bytes };
        (tensor.name, values)
    });
    Ok(ExportedTensors { tensors: tensors.collect(), path })
}

/// Refuses an output that cannot be written, or an existing file without `--force`.
fn can_be_written(output: &Path, force: bool) -> Result<(), Failure> {
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let reason = if output.is_dir() {
        "it is a folder".to_owned()
    } else if !folder.is_dir() {
        format!("there is no folder `{}`", folder.display())
    } else if output.exists() && !force {
        "it exists\nhint: choose another name, or replace it with --force".to_owned()
    } else {
        return Ok(());
    };
    Err(Failure::input(cannot_write(output, reason)))
}

fn cannot_write(output: &Path, reason: impl std::fmt::Display) -> String {
    format!("--output `{}` cannot be written: {reason}", output.display())
}

fn report(
    arguments: &ExportArguments,
    source: &ExportedTensors,
    output_arguments: OutputArguments,
) -> Result<(), Failure> {
    let (output, from) = (arguments.output.display(), source.path.display());
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
