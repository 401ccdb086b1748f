//! Restores a checkpoint: the run folder at that time, and the tensors on every rank.

use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::session::Session;
use crate::engine::training::progress::RunState;
use crate::engine::training::resume::ResumePoint;
use crate::engine::training::saver::MOMENTUM;
#[cfg(feature = "faults")]
use crate::run::checkpoint::Planted;
use crate::run::checkpoint::{CheckpointReader, Dtype, Retention, Snapshot, Store, TensorBytes};
use crate::run::{RunDestination, RunFolder, RunStart};
use collectives::CollectiveError;
use protocol::layout;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use tch::{Kind, Tensor};

/// The point from which a run resumes: its state on every rank, and on rank 0 the tensors.
pub struct RestoredRun {
    /// Its progress.
    pub state: RunState,
    /// Trained tensors and momentum.
    pub tensors: Option<Vec<TensorBytes>>,
}

/// The folder of a resumed run: its own, or a new one that begins with the metrics and the checkpoint of the old one.
pub fn open_folder(
    place: &RunDestination,
    found: &ResumePoint,
    config: &str,
    start: RunStart,
) -> Result<RunFolder, Failure> {
    let step = found.snapshot.step;
    if !place.is_other_than(&found.run) {
        // Before any file of the run is changed.
        let reader = CheckpointReader::new(&found.run.join(layout::CHECKPOINTS));
        reader.check_discard_after(step).map_err(Failure::of_checkpoint)?;
    }
    let folder = RunFolder::resume(place, &found.run, config, start).map_err(Failure::of_folder)?;
    if folder.path() == found.run {
        discard_after(&folder, step)?;
    } else {
        carry_over(found, &folder)?;
    }
    Ok(folder)
}

/// Removes checkpoints that are later than the one that a run resumes from. Call it before the metrics are truncated,
/// because they contain positions beyond that point.
pub fn discard_after(folder: &RunFolder, step: u64) -> Result<(), Failure> {
    everything_in(folder)?.discard_after(step).map_err(Failure::of_checkpoint)
}

/// Copies the checkpoint that a run resumes from, and the best one up to that step, so that the new folder does not
/// depend on the old one.
fn carry_over(found: &ResumePoint, folder: &RunFolder) -> Result<(), Failure> {
    let old = CheckpointReader::new(&found.run.join(layout::CHECKPOINTS));
    let mut store = everything_in(folder)?;
    let best = old.best().map_err(Failure::of_checkpoint)?.filter(|best| best.step <= found.snapshot.step);
    if let Some(best) = best.filter(|best| best.step < found.snapshot.step) {
        let snapshot: Snapshot<RunState> = old.load(best.step).map_err(Failure::of_checkpoint)?;
        store.write(&snapshot, Some(best.metric)).map_err(Failure::of_checkpoint)?;
    }
    let metric = best.filter(|best| best.step == found.snapshot.step).map(|best| best.metric);
    store.write(&found.snapshot, metric).map_err(Failure::of_checkpoint)?;
    Ok(())
}

fn everything_in(folder: &RunFolder) -> Result<Store, Failure> {
    let retention = Retention { keep: NonZeroUsize::MAX, best: true };
    Store::open(folder, retention).map_err(Failure::of_checkpoint)
}

/// Refuses a checkpoint of another backbone, other data or another model. Rank 0 has the tensors; every rank reports
/// its errors.
pub fn check(
    session: &Session,
    state: &RunState,
    tensors: Option<&[TensorBytes]>,
    rank: &Rank,
) -> Result<(), Failure> {
    agreed(&rank.control, || {
        same_inputs(session, state)?;
        tensors.map_or(Ok(()), |tensors| check_shapes(session, &by_name(tensors)))
    })
}

/// Copies the values of a checkpoint from rank 0 into the session of every rank.
pub fn restore(
    session: &Session,
    momentum: &Tensor,
    tensors: Option<&[TensorBytes]>,
    rank: &Rank,
) -> Result<(), Failure> {
    let trainables = session.model.trainables();
    let names = by_name(tensors.unwrap_or_default());
    let flat = trainables.flat();
    for (name, shape) in trainables.shapes() {
        for (prefix, into) in [("", &flat), (MOMENTUM, momentum)] {
            #[cfg(feature = "faults")]
            if prefix == MOMENTUM && Planted::StaleMomentum.is_played() {
                continue;
            }
            let bytes = names.get(format!("{prefix}{name}").as_str()).copied();
            let value = broadcast_tensor(bytes, &shape, into, rank)?;
            trainables.set_in(into, name, &value).map_err(Failure::run)?;
        }
    }
    Ok(())
}

fn by_name(tensors: &[TensorBytes]) -> BTreeMap<&str, &TensorBytes> {
    tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect()
}

/// Broadcasts a tensor of rank 0 to every rank.
fn broadcast_tensor(
    bytes: Option<&TensorBytes>,
    shape: &[i64],
    like: &Tensor,
    rank: &Rank,
) -> Result<Tensor, CollectiveError> {
    let options = (like.kind(), like.device());
    let mut value = match bytes {
        Some(tensor) => {
            let kind = if tensor.dtype == Dtype::F64 { Kind::Double } else { Kind::Float };
            Tensor::from_data_size(&tensor.bytes, shape, kind).to_kind(options.0).to_device(options.1)
        }
        None => Tensor::zeros(shape, options),
    };
    rank.group.broadcast(&mut value, 0)?;
    Ok(value)
}

fn same_inputs(session: &Session, state: &RunState) -> Result<(), Failure> {
    let inputs = [
        ("model.weights", &state.identity.backbone_fingerprint, &session.weights_fingerprint),
        ("the data set", &state.identity.data_fingerprint, &session.data_fingerprint),
    ];
    for (what, theirs, ours) in inputs {
        if theirs != ours {
            return Err(Failure::input(format!(
                "{what} differs from that of the checkpoint: its fingerprint is {ours}, expected {theirs}\nhint: use the same files"
            )));
        }
    }
    let ours = &session.backbone_config;
    if let Some(theirs) = state.identity.backbone_config.as_ref().filter(|theirs| *theirs != ours) {
        return Err(Failure::input(format!(
            "the backbone is computed differently than when the checkpoint was made: now {ours}; then {theirs}\nhint: restore the configuration file beside model.weights"
        )));
    }
    let sample = state.identity.data_sample.as_ref();
    let set = (session.train.as_ref(), session.test.as_ref());
    match sample.and_then(|sample| sample.difference(&session.data_sample, set)) {
        None => Ok(()),
        Some(difference) if difference.is_another_set() => Err(Failure::input(format!(
            "the data set differs from that of the checkpoint: {difference}\nhint: use the same files"
        ))),
        Some(difference) => {
            tracing::warn!("files of the data set have changed since the checkpoint was made: {difference}");
            Ok(())
        }
    }
}

fn check_shapes(session: &Session, found: &BTreeMap<&str, &TensorBytes>) -> Result<(), Failure> {
    let trainables = session.model.trainables();
    let mut expected = 0;
    for (name, shape) in trainables.shapes() {
        for name in [name.to_owned(), format!("{MOMENTUM}{name}")] {
            expected += 1;
            let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
            match found.get(name.as_str()) {
                None => {
                    return Err(Failure::input(format!(
                        "the checkpoint has no tensor `{name}`; it belongs to another method or model"
                    )));
                }
                Some(tensor) if tensor.shape != shape => {
                    let found = &tensor.shape;
                    return Err(Failure::input(format!(
                        "`{name}` has shape {found:?} in the checkpoint, expected {shape:?}; it belongs to another method or model"
                    )));
                }
                Some(_) => {}
            }
        }
    }
    if found.len() == expected {
        return Ok(());
    }
    Err(Failure::input(format!(
        "the checkpoint has {} tensors, expected {expected}; it belongs to another method or model",
        found.len()
    )))
}
