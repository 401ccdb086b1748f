//! Writing checkpoints, retention, and cleanup after writers that died.

use super::disk::{Disk, IoContext};
#[cfg(any(test, feature = "faults"))]
use super::faults::Planted;
use super::manifest::{MANIFEST, Manifest, ManifestEntry, STATE, TENSORS};
use super::names::{BEST, Leftover, LeftoverKind, beside, step_of};
use super::{
    BestCheckpoint, CheckpointError, CheckpointReader, FoundCheckpoint, Snapshot, TensorBytes, sealed,
    tensors,
};
use crate::run::RunFolder;
use protocol::layout;
use protocol::numbers::hex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Which checkpoints are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Number of the newest intact checkpoints.
    pub keep: NonZeroUsize,
    /// Also the one with the highest metric, recorded in `best.json`.
    pub best: bool,
}

/// A checkpoint that is on disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WrittenCheckpoint {
    /// Its step.
    pub step: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Seconds for writing it and removing older ones.
    pub seconds: f64,
}

/// A folder of checkpoints that only this process writes, which the claim to the run folder ensures.
#[derive(Debug)]
pub struct Store {
    reader: CheckpointReader,
    retention: Retention,
    /// Checkpoints that this value has written or verified, with their metrics: they are not verified in full again.
    known: BTreeMap<u64, Option<f64>>,
}

/// The files of a snapshot.
struct SnapshotFiles<'a> {
    header: Vec<u8>,
    tensors: Vec<&'a TensorBytes>,
    state: Vec<u8>,
    manifest: Vec<u8>,
}

impl Store {
    /// Opens the checkpoints of `run`, whose folder the first write creates, and removes the leftovers of writers that
    /// died. Changes nothing after the run has lost its folder.
    pub fn open(run: &RunFolder, retention: Retention) -> Result<Self, CheckpointError> {
        Self::with(&run.checkpoints(), retention, Disk::of(Arc::clone(run.claim())))
    }

    pub(super) fn with(folder: &Path, retention: Retention, disk: Disk) -> Result<Self, CheckpointError> {
        let store = Self { reader: CheckpointReader::with(folder, disk), retention, known: BTreeMap::new() };
        store.clear_up()?;
        Ok(store)
    }

    /// A reader of the folder.
    pub fn reader(&self) -> &CheckpointReader {
        &self.reader
    }

    /// See [`CheckpointReader::generations`].
    pub fn generations(&self) -> Result<Vec<u64>, CheckpointError> {
        self.reader.generations()
    }

    /// See [`CheckpointReader::load`].
    pub fn load<S: DeserializeOwned>(&self, step: u64) -> Result<Snapshot<S>, CheckpointError> {
        self.reader.load(step)
    }

    /// See [`CheckpointReader::load_path`].
    pub fn load_path<S: DeserializeOwned>(&self, path: &Path) -> Result<Snapshot<S>, CheckpointError> {
        self.reader.load_path(path)
    }

    /// See [`CheckpointReader::newest`].
    pub fn newest<S: DeserializeOwned>(&self) -> Result<Option<FoundCheckpoint<S>>, CheckpointError> {
        self.reader.newest()
    }

    /// See [`CheckpointReader::best`].
    pub fn best(&self) -> Result<Option<BestCheckpoint>, CheckpointError> {
        self.reader.best()
    }

    /// Writes a checkpoint; when this returns it survives the end of the process and of the machine. Then older ones
    /// are removed according to [`Retention`]. A checkpoint of the same step is replaced. On an error no older one is
    /// lost.
    ///
    /// `metric` (higher is better) makes it a candidate for the best one; one that is not finite counts as none.
    pub fn write<S: Serialize + DeserializeOwned>(
        &mut self,
        snapshot: &Snapshot<S>,
        metric: Option<f64>,
    ) -> Result<WrittenCheckpoint, CheckpointError> {
        let start = Instant::now();
        let step = snapshot.step;
        let metric = metric.filter(|metric| metric.is_finite());
        #[cfg(any(test, feature = "faults"))]
        let stale = self.stale_copy(snapshot);
        #[cfg(any(test, feature = "faults"))]
        let snapshot = stale.as_ref().unwrap_or(snapshot);
        let files = SnapshotFiles::new(snapshot, metric)?;
        self.create_folder()?;
        self.clear_up()?;
        if let Some(newest) = self.generations()?.last().filter(|newest| **newest > step) {
            let folder = self.reader.folder().to_path_buf();
            return Err(CheckpointError::OutOfOrder { folder, step, newest: *newest });
        }
        #[cfg(any(test, feature = "faults"))]
        if self.disk().plays(Planted::EarlyPrune) {
            self.remove(&self.generations()?)?;
        }
        self.write_beside(step, &files)?;
        self.known.remove(&step);
        self.publish(step)?;
        self.known.insert(step, metric);
        // The checkpoint is safe. Later failures are reported, and the work is done with the next checkpoint.
        if let Err(error) = self.settle() {
            tracing::warn!("checkpoint {step} is written, but the cleanup after it failed: {error}");
        }
        Ok(WrittenCheckpoint { step, bytes: files.size(), seconds: start.elapsed().as_secs_f64() })
    }

    /// Removes every checkpoint of a later step: a run that resumes from `step` writes them again. Call it before
    /// anything else of the run (its metrics) is rolled back to that step. If one belongs to another version, returns
    /// an error and removes nothing.
    pub fn discard_after(&mut self, step: u64) -> Result<(), CheckpointError> {
        self.reader.check_discard_after(step)?;
        let mut later = self.generations()?;
        later.retain(|other| *other > step);
        later.reverse();
        self.remove(&later)?;
        self.settle()
    }

    fn disk(&self) -> &Disk {
        &self.reader.disk
    }

    fn create_folder(&self) -> Result<(), CheckpointError> {
        let folder = self.reader.folder();
        match self.disk().create_folder(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => {
                outcome.told("create", folder)?;
                let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
                self.disk().sync_folder(parent.unwrap_or(Path::new("."))).told("sync", folder)
            }
        }
    }

    /// Writes the checkpoint under a hidden name.
    fn write_beside(&self, step: u64, files: &SnapshotFiles) -> Result<(), CheckpointError> {
        let place = self.temporary(step);
        let written = self.disk().create_folder(&place).told("create", &place).and_then(|()| {
            let content: [(&str, Vec<&[u8]>); 3] = [
                (TENSORS, files.tensor_parts()),
                (STATE, vec![&files.state]),
                (MANIFEST, vec![&files.manifest]),
            ];
            for (name, parts) in content {
                let path = place.join(name);
                self.disk().write_file(&path, parts).told("write", &path)?;
            }
            self.disk().sync_folder(&place).told("sync", &place)
        });
        written.map_err(|error| self.after_failure(error, step, &place, files.size()))
    }

    #[cfg(any(test, feature = "faults"))]
    fn temporary(&self, step: u64) -> std::path::PathBuf {
        if self.disk().plays(Planted::TornPublish) {
            return self.reader.path(step);
        }
        beside(self.reader.folder(), &layout::checkpoint(step), LeftoverKind::Temporary)
    }

    #[cfg(not(any(test, feature = "faults")))]
    fn temporary(&self, step: u64) -> std::path::PathBuf {
        beside(self.reader.folder(), &layout::checkpoint(step), LeftoverKind::Temporary)
    }

    /// Removes what was written so far; for a full disk, the error includes the required space.
    fn after_failure(&self, error: CheckpointError, step: u64, place: &Path, needed: u64) -> CheckpointError {
        // If this fails as well, the next write or the next start tries again.
        let _ = self.disk().remove(place);
        match error {
            CheckpointError::Io { ref source, .. } if error.is_no_room() => CheckpointError::NoRoom {
                path: self.reader.path(step),
                needed,
                free: Disk::free(self.reader.folder()).ok(),
                source: source.clone(),
            },
            error => error,
        }
    }

    /// Renames the checkpoint to its final name. An existing one with this name is first set aside, and restored on a
    /// failure (or, if the process ends here, the next time the folder is opened).
    fn publish(&self, step: u64) -> Result<(), CheckpointError> {
        let (name, path) = (layout::checkpoint(step), self.reader.path(step));
        let (temporary, aside) =
            (self.temporary(step), beside(self.reader.folder(), &name, LeftoverKind::Replaced));
        let replaces = temporary != path && path.symlink_metadata().is_ok();
        if replaces {
            self.disk().rename(&path, &aside).told("replace", &path)?;
        }
        if let Err(error) = self.disk().rename(&temporary, &path) {
            if replaces {
                // If this fails as well, the next write or the next start tries again.
                let _ = self.disk().rename(&aside, &path);
            }
            let _ = self.disk().remove(&temporary);
            return Err(CheckpointError::io("create", &path, error));
        }
        self.disk().sync_folder(self.reader.folder()).told("sync", &path)?;
        if replaces && let Err(error) = self.disk().remove(&aside) {
            tracing::warn!("cannot remove `{}`: {error}", aside.display());
        }
        Ok(())
    }

    /// Brings `best.json` up to date and removes what [`Retention`] does not keep. A damaged checkpoint does not count
    /// among the kept ones, and is removed if it is older than all of them. One of another version is kept.
    fn settle(&mut self) -> Result<(), CheckpointError> {
        let steps = self.generations()?;
        let whole: Vec<u64> = steps.iter().copied().filter(|step| self.is_whole(*step)).collect();
        let best = if self.retention.best {
            BestCheckpoint::of(whole.iter().map(|step| (*step, self.known.get(step).copied().flatten())))
        } else {
            None
        };
        self.record_best(best)?;
        let Some(oldest) = whole.iter().rev().nth(self.retention.keep.get() - 1) else { return Ok(()) };
        let is_best = |step: u64| best.is_some_and(|best| best.step == step);
        let mut old: Vec<u64> = steps.into_iter().filter(|step| step < oldest && !is_best(*step)).collect();
        old.retain(|step| self.known.contains_key(step) || self.reader.another_version(*step).is_none());
        self.remove(&old)
    }

    fn record_best(&self, best: Option<BestCheckpoint>) -> Result<(), CheckpointError> {
        let path = self.reader.folder().join(BEST);
        if self.reader.recorded_best() == best && (best.is_some() || path.symlink_metadata().is_err()) {
            return Ok(());
        }
        let Some(best) = best else { return self.disk().remove(&path).told("remove", &path) };
        let text = sealed::seal(&best).map_err(io::Error::from).told("write", &path)?;
        let place = beside(self.reader.folder(), BEST, LeftoverKind::Temporary);
        self.disk()
            .write_file(&place, [text.as_slice()])
            .and_then(|()| self.disk().rename(&place, &path))
            .and_then(|()| self.disk().sync_folder(self.reader.folder()))
            .told("write", &path)
    }

    /// Whether a checkpoint is intact: the first call reads all of it, later calls check only the sizes.
    fn is_whole(&mut self, step: u64) -> bool {
        let verified = self.known.contains_key(&step);
        match if verified { self.reader.glance(step) } else { self.reader.verify(step) } {
            Ok(manifest) => {
                self.known.insert(step, manifest.metric);
                true
            }
            Err(error) => {
                self.known.remove(&step);
                // One of another version is kept, and would be reported with every checkpoint.
                if !error.is_of_another_version() {
                    tracing::warn!("{error}");
                }
                false
            }
        }
    }

    /// Removes checkpoints: first renames all of them and syncs, and then deletes their files.
    fn remove(&mut self, steps: &[u64]) -> Result<(), CheckpointError> {
        let mut hidden = Vec::new();
        for step in steps {
            let path = self.reader.path(*step);
            let place = beside(self.reader.folder(), &layout::checkpoint(*step), LeftoverKind::Removed);
            self.known.remove(step);
            self.disk().rename(&path, &place).told("remove", &path)?;
            hidden.push(place);
        }
        if hidden.is_empty() {
            return Ok(());
        }
        self.disk().sync_folder(self.reader.folder()).told("sync", self.reader.folder())?;
        hidden.iter().try_for_each(|place| self.disk().remove(place).told("remove", place))
    }

    /// Removes the leftovers of writers that died or failed. A checkpoint that was set aside for a replacement that was
    /// never completed gets its name back.
    fn clear_up(&self) -> Result<(), CheckpointError> {
        let folder = self.reader.folder();
        let names = self.reader.names()?;
        for name in &names {
            let Some(leftover) = Leftover::of_name(name).filter(|leftover| !leftover.is_in_use()) else {
                continue;
            };
            let path = folder.join(name);
            let alone = !names.iter().any(|name| name == OsStr::new(&leftover.of));
            if leftover.kind == LeftoverKind::Replaced && alone && step_of(OsStr::new(&leftover.of)).is_some()
            {
                let original = folder.join(&leftover.of);
                self.disk().rename(&path, &original).told("bring back", &original)?;
                self.disk().sync_folder(folder).told("sync", folder)?;
            } else if let Err(error) = self.disk().remove(&path) {
                tracing::warn!(
                    "cannot remove `{}`, a leftover of a writer that died: {error}",
                    path.display()
                );
            }
        }
        Ok(())
    }

    /// The snapshot with one stale bit, if that bug is planted.
    #[cfg(any(test, feature = "faults"))]
    fn stale_copy<S: Serialize + DeserializeOwned>(&self, snapshot: &Snapshot<S>) -> Option<Snapshot<S>> {
        if !self.disk().plays(Planted::UnsyncedByte) {
            return None;
        }
        let state = serde_json::from_value(serde_json::to_value(&snapshot.state).ok()?).ok()?;
        let mut tensors = snapshot.tensors.clone();
        let byte = tensors.iter_mut().rev().find_map(|tensor| tensor.bytes.first_mut())?;
        *byte ^= 1;
        Some(Snapshot { step: snapshot.step, tensors, state })
    }
}

impl<'a> SnapshotFiles<'a> {
    fn new<S: Serialize + DeserializeOwned>(
        snapshot: &'a Snapshot<S>,
        metric: Option<f64>,
    ) -> Result<Self, CheckpointError> {
        let step = snapshot.step;
        let refuse = |reason| CheckpointError::Snapshot { step, reason };
        let (header, tensors) = tensors::encode(&snapshot.tensors).map_err(refuse)?;
        let state = encode_state(&snapshot.state).map_err(refuse)?;
        let mut files = Self { header, tensors, state, manifest: Vec::new() };
        let tensors = entry(files.tensor_parts());
        files.manifest = Manifest::new(step, metric, tensors, entry([files.state.as_slice()])).encode()?;
        Ok(files)
    }

    fn tensor_parts(&self) -> Vec<&[u8]> {
        let tensors = self.tensors.iter().map(|tensor| tensor.bytes.as_slice());
        std::iter::once(self.header.as_slice()).chain(tensors).collect()
    }

    fn size(&self) -> u64 {
        let parts = self.tensor_parts();
        let bytes =
            parts.iter().map(|part| part.len()).sum::<usize>() + self.state.len() + self.manifest.len();
        bytes as u64
    }
}

fn entry<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> ManifestEntry {
    let (mut sum, mut size) = (Sha256::new(), 0);
    for part in parts {
        sum.update(part);
        size += part.len() as u64;
    }
    ManifestEntry { size, sha256: hex(&sum.finalize()) }
}

/// The state as text, checked by a round trip: otherwise a number that JSON cannot represent would be detected only on
/// resume.
fn encode_state<S: Serialize + DeserializeOwned>(state: &S) -> Result<Vec<u8>, String> {
    let text =
        serde_json::to_vec(state).map_err(|error| format!("its state cannot be written as JSON: {error}"))?;
    let again = serde_json::from_slice::<S>(&text)
        .and_then(|state| serde_json::to_vec(&state))
        .map_err(|error| format!("its state cannot be read back: {error}"))?;
    if again == text {
        return Ok(text);
    }
    // A NaN in an optional field becomes an absent one, for example.
    Err("its state changes when it is written and read back".into())
}
