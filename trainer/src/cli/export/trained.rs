//! The trained tensors of a run: its final ones, or those of its newest checkpoint.

use crate::engine::failure::Failure;
use crate::engine::training::saver::MOMENTUM;
use crate::run::checkpoint::{CheckpointReader, FoundCheckpoint};
use crate::run::say;
use crate::weights::host_tensor::HostTensor;
use crate::weights::trained::TrainedFile;
use protocol::layout;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The trained tensors of a run, and the file or folder they come from.
pub(super) struct ExportedTensors {
    pub(super) path: PathBuf,
    pub(super) tensors: BTreeMap<String, HostTensor>,
}

impl ExportedTensors {
    /// Those of the run in a folder.
    pub(super) fn of(run: &Path) -> Result<Self, Failure> {
        if run.join(layout::FINAL_WEIGHTS).exists() { finished(run) } else { unfinished(run) }
    }
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
