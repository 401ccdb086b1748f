//! Resuming from a checkpoint: finds it and checks that it fits the configuration.

use crate::config::{
    AttentionName, Config, FrozenProductsName, MicroBatchSize, Resolved, SamplerName, SettingDifference,
};
use crate::engine::failure::Failure;
use crate::engine::training::progress::{Progress, RunState};
use crate::options::OnResume;
use crate::run::checkpoint::{CheckpointReader, Snapshot};
use crate::run::{RunDestination, say};
use protocol::{hint, layout};
use std::path::{Path, PathBuf};

/// The checkpoint to resume from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// None: the run starts from scratch.
    Never,
    /// From the newest checkpoint in its folder, if there is one.
    Auto,
    /// From a run folder's newest checkpoint, or from the checkpoint in this folder.
    From(PathBuf),
}

/// The user's request to resume.
#[derive(Debug, Clone)]
pub struct ResumeRequest {
    /// The checkpoint to resume from.
    pub from: Resume,
    /// Keys whose values may differ from those of the resumed run.
    pub allow_changed: Vec<String>,
    /// Whether the job was restarted with the same request.
    pub restarted: bool,
}

/// A checkpoint that rank 0 found.
pub struct ResumePoint {
    /// The checkpoint.
    pub snapshot: Snapshot<RunState>,
    /// The folder of the run that wrote it.
    pub run: PathBuf,
}

/// The decision of rank 0.
pub enum ResumeDecision {
    /// Start from scratch.
    Fresh,
    /// Resume.
    GoOn(Box<ResumePoint>),
    /// The run in this folder is finished.
    Finished(PathBuf),
}

/// Whether a setting may differ when trained tensors are reused: the data and the backbone are compared by content.
pub fn is_free(key: &str) -> bool {
    Config::on_resume(key) == Some(OnResume::Free)
}

impl ResumeRequest {
    /// A run that starts from scratch.
    pub fn never() -> Self {
        Self { from: Resume::Never, allow_changed: Vec::new(), restarted: false }
    }

    /// Searches for the checkpoint to resume from. Only for rank 0.
    pub fn decide(&self, place: &RunDestination, resolved: &Resolved) -> Result<ResumeDecision, Failure> {
        match &self.from {
            Resume::Never => Ok(ResumeDecision::Fresh),
            Resume::Auto => {
                if self.restarted && place.latest().is_none() {
                    tracing::warn!(
                        "this job was started before, but there is no run to resume: it starts from scratch"
                    );
                }
                self.own(place, resolved)
            }
            Resume::From(path) => match self.own_of_restart(place, resolved)? {
                ResumeDecision::Fresh => self.named(path, resolved),
                decided => Ok(decided),
            },
        }
    }

    /// From the run's own folder.
    fn own(&self, place: &RunDestination, resolved: &Resolved) -> Result<ResumeDecision, Failure> {
        let Some(run) = place.latest() else { return Ok(ResumeDecision::Fresh) };
        let is_finished = run.join(layout::RESULT).exists();
        let changes = self.changes_since(&run, resolved)?;
        if is_finished && changes.is_empty() {
            return Ok(ResumeDecision::Finished(run));
        }
        let reader = CheckpointReader::new(&run.join(layout::CHECKPOINTS));
        match newest(&reader)? {
            Some(snapshot) => self.go_on(snapshot, run, resolved),
            None if is_finished => Err(Failure::input(format!(
                "the run in `{}` has finished and has no checkpoint to resume from\nhint: choose another --output",
                run.display()
            ))),
            None => Ok(ResumeDecision::Fresh),
        }
    }

    /// The own checkpoint of a restarted job whose `--resume` names another run.
    fn own_of_restart(&self, place: &RunDestination, resolved: &Resolved) -> Result<ResumeDecision, Failure> {
        match place {
            RunDestination::Named(_) if self.restarted => self.own(place, resolved),
            _ => Ok(ResumeDecision::Fresh),
        }
    }

    fn named(&self, path: &Path, resolved: &Resolved) -> Result<ResumeDecision, Failure> {
        let (reader, run, checkpoint) = from_path(path)?;
        let snapshot = match checkpoint {
            Some(path) => reader.load_path(&path).map_err(Failure::of_checkpoint)?,
            None => newest(&reader)?.ok_or_else(|| {
                let folder = reader.folder().display();
                Failure::input(format!("`{folder}` has no checkpoint; --resume needs one"))
            })?,
        };
        self.go_on(snapshot, run, resolved)
    }

    fn go_on(
        &self,
        snapshot: Snapshot<RunState>,
        run: PathBuf,
        resolved: &Resolved,
    ) -> Result<ResumeDecision, Failure> {
        let changes = self.changes(&snapshot.state.identity.config, resolved)?;
        fits(&snapshot.state.progress, &changes, resolved)?;
        Ok(ResumeDecision::GoOn(Box::new(ResumePoint { snapshot, run })))
    }

    /// The differences from the configuration with which the run was last started.
    fn changes_since(&self, run: &Path, resolved: &Resolved) -> Result<Vec<SettingDifference>, Failure> {
        let path = run.join(layout::CONFIG);
        match std::fs::read_to_string(&path) {
            Ok(text) => self.changes(&text, resolved),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Failure::run(format!("cannot read `{}`: {error}", path.display()))),
        }
    }

    /// The changed settings, if the user allows them. A configuration that would make it a different run is refused.
    fn changes(&self, theirs: &str, ours: &Resolved) -> Result<Vec<SettingDifference>, Failure> {
        let theirs = Resolved::from_run_folder(theirs).map_err(|error| {
            Failure::input(format!("cannot read the configuration of the run to resume: {error}"))
        })?;
        let absent = theirs.absent();
        if !absent.is_empty() {
            tracing::info!(
                "the run was written by an older version; the defaults of {} are used",
                absent.join(", ")
            );
        }
        let allowed =
            |key: &str| self.allow_changed.iter().any(|allowed| Config::name_of_key(allowed) == key);
        let line = |d: &SettingDifference| format!("\n  {}: {} before, {} now", d.key, d.left, d.right);
        let differences = theirs.diff(ours).into_iter().filter(|d| !is_settled_by_run(d, ours));
        let (free, changes): (Vec<_>, Vec<_>) = differences.partition(|d| is_free(&d.key));
        let (allowed, refused): (Vec<_>, Vec<_>) = changes.into_iter().partition(|d| allowed(&d.key));
        for difference in free.iter().chain(&allowed) {
            tracing::info!("changed since the run was last started:{}", line(difference));
        }
        if refused.is_empty() {
            return Ok(allowed);
        }
        let lines: String = refused.iter().map(line).collect();
        Err(Failure::input(format!(
            "the run to resume has another configuration:{lines}\nhint: use the same settings, or allow the change with --allow-changed KEY, or start from scratch with --resume never and another --output"
        )))
    }
}

/// Whether a run keeps the value that it found for `auto`.
fn is_settled_by_run(difference: &SettingDifference, ours: &Resolved) -> bool {
    let train = &ours.config.train;
    match difference.key.as_str() {
        "train.micro_batch_size" => train.micro_batch_size == MicroBatchSize::Auto,
        "train.attention" => train.attention == AttentionName::Auto,
        "train.frozen_products" => train.frozen_products == FrozenProductsName::Auto,
        _ => false,
    }
}

/// The newest intact checkpoint, with a warning about damaged ones.
fn newest(reader: &CheckpointReader) -> Result<Option<Snapshot<RunState>>, Failure> {
    let found = reader.newest::<RunState>().map_err(Failure::of_checkpoint)?;
    Ok(found.map(|found| {
        for (path, reason) in &found.skipped {
            // The hint is to use an older checkpoint, which is done here.
            say(format_args!("warning: `{}` cannot be used: {}", path.display(), hint::split(reason).0));
        }
        found.snapshot
    }))
}

/// Refuses changes that make the progress of the run meaningless.
fn fits(progress: &Progress, changes: &[SettingDifference], resolved: &Resolved) -> Result<(), Failure> {
    if resolved.config.train.epochs == 0 {
        let text = "train.epochs=0 trains nothing and would lose what the run has learnt\nhint: evaluate it with `lift-trainer eval --run`";
        return Err(Failure::input(text));
    }
    let progressive = resolved.config.data.sampler == SamplerName::Progressive;
    let is_of_order = |key: &str| Config::on_resume(key) == Some(OnResume::Order);
    let orders = |key: &str| is_of_order(key) || (key == "train.epochs" && progressive);
    let Some(change) = changes.iter().find(|change| orders(&change.key)) else { return Ok(()) };
    if progress.is_between_epochs() {
        return Ok(());
    }
    Err(Failure::input(format!(
        "{} decides which samples follow, and the checkpoint lies {} steps within epoch {}\nhint: change it where an epoch ends, by naming such a checkpoint with --resume",
        change.key,
        progress.in_epoch,
        progress.epoch + 1
    )))
}

/// A run folder, or the folder of one checkpoint in it.
fn from_path(path: &Path) -> Result<(CheckpointReader, PathBuf, Option<PathBuf>), Failure> {
    let within = path.join(layout::CHECKPOINTS);
    if within.is_dir() {
        return Ok((CheckpointReader::new(&within), path.to_owned(), None));
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
            Ok((CheckpointReader::new(&folder), run, Some(whole)))
        }
        _ => Err(Failure::input(format!(
            "`{}` is neither a run folder with checkpoints nor one of a run's checkpoints",
            path.display()
        ))),
    }
}
