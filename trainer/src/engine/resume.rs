//! Going on from a checkpoint: which one, whether it fits, and how all ranks come to have it.

use super::failure::{Failure, agreed};
use super::progress::RunState;
use super::rank::Rank;
use super::saving::MOMENTUM;
use super::session::Session;
use crate::config::{Difference, Resolved};
#[cfg(feature = "faults")]
use crate::run::checkpoint::Planted;
use crate::run::checkpoint::{Dtype, Reader, Retention, Snapshot, Store, TensorBytes};
use crate::run::{Place, RunFolder};
use collectives::CollectiveError;
use launcher::protocol::layout;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// Where a run is to go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Nowhere: it begins anew.
    Never,
    /// From the newest checkpoint in its folder, if there is one.
    Auto,
    /// From a run folder's newest checkpoint, or from the checkpoint in this folder.
    From(PathBuf),
}

/// What the person wants of it.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Where to go on from.
    pub from: Resume,
    /// Keys whose values may differ from those of the run that is gone on with.
    pub allow_changed: Vec<String>,
}

/// What was found, on rank 0.
pub struct Found {
    /// The checkpoint.
    pub snapshot: Snapshot<RunState>,
    /// The folder of the run that wrote it.
    pub run: PathBuf,
}

/// What rank 0 decided.
pub enum Decision {
    /// To begin anew.
    Fresh,
    /// To go on.
    GoOn(Box<Found>),
    /// The run in this folder is finished.
    Finished(PathBuf),
}

/// Settings that change where and how fast a run computes, but not what it is; what files hold is compared by itself.
const FREE: [&str; 17] = [
    "data.root",
    "data.train_list",
    "data.test_list",
    "data.class_names",
    "data.images",
    "data.workers",
    "data.prefetch",
    "model.weights",
    "train.device",
    "train.threads",
    "train.log_every",
    "checkpoint.every_steps",
    "checkpoint.every_seconds",
    "checkpoint.keep",
    "checkpoint.max_failures",
    "backbone.placement",
    "head.placement",
];

impl Wish {
    /// A run that begins anew.
    pub fn never() -> Self {
        Self { from: Resume::Never, allow_changed: Vec::new() }
    }

    /// Looks for what to go on from. Only for rank 0.
    pub fn decide(&self, place: &Place, resolved: &Resolved) -> Result<Decision, Failure> {
        let (reader, run, path) = match &self.from {
            Resume::Never => return Ok(Decision::Fresh),
            Resume::Auto => {
                let Some(run) = place.latest() else { return Ok(Decision::Fresh) };
                if run.join(layout::RESULT).exists() {
                    return Ok(Decision::Finished(run));
                }
                (Reader::new(&run.join(layout::CHECKPOINTS)), run, None)
            }
            Resume::From(path) => from_path(path)?,
        };
        let snapshot = match path {
            Some(path) => reader.load_path(&path).map_err(Failure::input)?,
            None => match reader.newest::<RunState>().map_err(Failure::input)? {
                Some(found) => {
                    for (path, reason) in &found.skipped {
                        eprintln!("warning: `{}` cannot be used: {reason}", path.display());
                    }
                    found.snapshot
                }
                None if self.from == Resume::Auto => return Ok(Decision::Fresh),
                None => {
                    let folder = reader.folder().display();
                    return Err(Failure::input(format!(
                        "`{folder}` holds no checkpoint; --resume needs one"
                    )));
                }
            },
        };
        self.same_configuration(&snapshot.state.identity.config, resolved)?;
        Ok(Decision::GoOn(Box::new(Found { snapshot, run })))
    }

    /// Refuses a configuration that differs where it would make another run of it.
    fn same_configuration(&self, theirs: &str, ours: &Resolved) -> Result<(), Failure> {
        let theirs = Resolved::from_run_folder(theirs).map_err(|error| {
            Failure::input(format!("the configuration in the checkpoint cannot be read: {error}"))
        })?;
        let free = |key: &str| FREE.contains(&key) || key.starts_with("distributed.");
        let allowed = |key: &str| self.allow_changed.iter().any(|allowed| allowed == key);
        let differences = theirs.diff(ours);
        let line = |d: &Difference| format!("\n  {}: {} in the checkpoint, {} now", d.key, d.left, d.right);
        let refused: Vec<_> = differences.iter().filter(|d| !free(&d.key) && !allowed(&d.key)).collect();
        for difference in differences.iter().filter(|d| free(&d.key) || allowed(&d.key)) {
            tracing::info!("changed since the checkpoint:{}", line(difference));
        }
        if refused.is_empty() {
            return Ok(());
        }
        let lines: String = refused.iter().map(|d| line(d)).collect();
        Err(Failure::input(format!(
            "the run to go on with has another configuration:{lines}\ngive the same settings, or allow the change with --allow-changed KEY, or begin anew with --resume never and another --output"
        )))
    }
}

/// A run folder, or the folder of one checkpoint in it.
fn from_path(path: &Path) -> Result<(Reader, PathBuf, Option<PathBuf>), Failure> {
    let within = path.join(layout::CHECKPOINTS);
    if within.is_dir() {
        return Ok((Reader::new(&within), path.to_owned(), None));
    }
    let whole = path.canonicalize().map_err(|error| {
        Failure::input(format!(
            "cannot read `{}`: {error}; --resume needs a run folder, or the folder of one of its checkpoints",
            path.display()
        ))
    })?;
    let parents = whole.parent().and_then(|folder| Some((folder.to_owned(), folder.parent()?.to_owned())));
    match parents {
        Some((folder, run)) if folder.file_name().is_some_and(|name| name == layout::CHECKPOINTS) => {
            Ok((Reader::new(&folder), run, Some(whole)))
        }
        _ => Err(Failure::input(format!(
            "`{}` is neither a run folder with checkpoints nor one of a run's checkpoints",
            path.display()
        ))),
    }
}

/// Puts a checkpoint's values into a session on every rank. Rank 0 brings the tensors; what it finds wrong with them
/// every rank reports.
pub fn restore(
    session: &Session,
    momentum: &Tensor,
    state: &RunState,
    tensors: Option<&[TensorBytes]>,
    rank: &Rank,
) -> Result<(), Failure> {
    let trainables = session.model.trainables();
    let names = agreed(&rank.control, || {
        same_inputs(session, state)?;
        let by_name: BTreeMap<&str, &TensorBytes> =
            tensors.unwrap_or_default().iter().map(|t| (t.name.as_str(), t)).collect();
        if tensors.is_some() {
            check_shapes(session, &by_name)?;
        }
        Ok(by_name)
    })?;
    let flat = trainables.flat();
    for (name, shape) in trainables.shapes() {
        for (prefix, into) in [("", &flat), (MOMENTUM, momentum)] {
            #[cfg(feature = "faults")]
            if prefix == MOMENTUM && Planted::StaleMomentum.is_played() {
                continue;
            }
            let bytes = names.get(format!("{prefix}{name}").as_str()).copied();
            let value = share(bytes, &shape, into, rank)?;
            trainables.set_in(into, name, &value).map_err(Failure::run)?;
        }
    }
    Ok(())
}

/// The tensor that rank 0 has, on every rank.
fn share(
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
                "{what} is not what the checkpoint was made with: its fingerprint is {ours}, expected {theirs}; give the same files"
            )));
        }
    }
    Ok(())
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
                        "the checkpoint has no tensor `{name}`; it is of another method or model"
                    )));
                }
                Some(tensor) if tensor.shape != shape => {
                    let found = &tensor.shape;
                    return Err(Failure::input(format!(
                        "`{name}` has shape {found:?} in the checkpoint, expected {shape:?}; it is of another method or model"
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
        "the checkpoint holds {} tensors, expected {expected}; it is of another method or model",
        found.len()
    )))
}

/// The folder of a run that goes on: its own, or a new one that begins with the metrics of the old.
pub fn open_folder(place: &Place, found: &Found, config: &str) -> Result<RunFolder, Failure> {
    let Snapshot { step, state, .. } = &found.snapshot;
    let folder =
        RunFolder::resume(place, &found.run, config, state.metrics_position).map_err(Failure::input)?;
    discard_after(&folder, *step)?;
    Ok(folder)
}

/// Removes later checkpoints than the one that a run goes on from: they belong to a past that did not happen. To be
/// called before the metrics are cut, for they hold positions behind the cut.
pub fn discard_after(folder: &RunFolder, step: u64) -> Result<(), Failure> {
    let retention = Retention { keep: NonZeroUsize::MAX, best: true };
    let mut store = Store::open(&folder.checkpoints(), retention).map_err(Failure::input)?;
    store.discard_after(step).map_err(Failure::input)
}
