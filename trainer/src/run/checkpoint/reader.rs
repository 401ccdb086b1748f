//! Reading checkpoints: no part of one is used before all of it is verified.

use super::disk::{Disk, IoContext};
#[cfg(any(test, feature = "faults"))]
use super::faults::Planted;
use super::manifest::{MANIFEST, Manifest, ManifestEntry, STATE, TENSORS};
use super::names::{BEST, Leftover, LeftoverKind, step_of};
use super::retry::{LOAD_PAUSES, patiently};
use super::{CheckpointError, Snapshot, sealed, tensors};
use protocol::numbers::hex;
use protocol::{hint, layout};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A file is read in parts of this size, and memory grows with the bytes actually read: a length in a file alone
/// allocates nothing.
const PART: usize = 1 << 20;
/// Longest manifest or `best.json` that this program writes.
const LONGEST_MANIFEST: u64 = 64 << 10;
/// The only format of `best.json` so far.
pub(super) const BEST_FORMAT: u32 = 1;

/// Reads a folder of checkpoints and changes nothing there. Writers and other readers may use it at the same time.
#[derive(Clone, Debug)]
pub struct CheckpointReader {
    folder: PathBuf,
    pub(super) disk: Disk,
}

/// A checkpoint that was found, loaded and verified.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundCheckpoint<S> {
    /// Its content.
    pub snapshot: Snapshot<S>,
    /// Its folder.
    pub path: PathBuf,
    /// Newer ones that cannot be used, each with the reason, the newest first.
    pub skipped: Vec<(PathBuf, String)>,
}

/// The best checkpoint, as `best.json` records it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestCheckpoint {
    pub(super) format: u32,
    /// Its step.
    pub step: u64,
    /// Its metric; higher is better.
    pub metric: f64,
}

impl CheckpointReader {
    /// Reads `folder`; a folder that does not exist has no checkpoints.
    pub fn new(folder: &Path) -> Self {
        Self::with(folder, Disk::new())
    }

    pub(super) fn with(folder: &Path, disk: Disk) -> Self {
        Self { folder: folder.to_path_buf(), disk }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Path of the checkpoint of `step`, existing or not.
    pub fn path(&self, step: u64) -> PathBuf {
        self.folder.join(layout::checkpoint(step))
    }

    /// Steps of the existing checkpoints, intact or not, in ascending order.
    pub fn generations(&self) -> Result<Vec<u64>, CheckpointError> {
        let mut steps: Vec<u64> = self.names()?.iter().filter_map(|name| step_of(name)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// The checkpoint of `step`.
    pub fn load<S: DeserializeOwned>(&self, step: u64) -> Result<Snapshot<S>, CheckpointError> {
        self.load_path(&self.path(step))
    }

    /// The checkpoint in the folder `path`, at any location. A folder named by a step must contain the checkpoint of
    /// that step; one with another name may contain any.
    pub fn load_path<S: DeserializeOwned>(&self, path: &Path) -> Result<Snapshot<S>, CheckpointError> {
        let told =
            |error: &CheckpointError, _| tracing::warn!("{}", hint::with_clause(error, "trying again"));
        patiently(&LOAD_PAUSES, told, || self.load_once(path))
    }

    /// The newest intact checkpoint, or none if there is no checkpoint at all. If there are some and none can be used,
    /// that is an error: a run must not start from scratch unless the user requests it. A newer checkpoint of another
    /// version is an error too: its steps must not be trained again from an older one.
    pub fn newest<S: DeserializeOwned>(&self) -> Result<Option<FoundCheckpoint<S>>, CheckpointError> {
        loop {
            let candidates = self.candidates()?;
            let mut skipped = Vec::new();
            for (_, path) in candidates.iter().rev() {
                match self.load_path(path) {
                    Ok(snapshot) => {
                        return Ok(Some(FoundCheckpoint { snapshot, path: path.clone(), skipped }));
                    }
                    Err(error) if error.is_of_another_version() => return Err(error),
                    Err(error) => skipped.push((path.clone(), error.to_string())),
                }
            }
            if skipped.is_empty() {
                return Ok(None);
            }
            // A concurrent writer may have removed them all after it wrote a newer one.
            if self.candidates()? == candidates {
                return Err(CheckpointError::NoneUsable { folder: self.folder.clone(), skipped });
            }
        }
    }

    /// The existing checkpoints, and those that were set aside for a replacement of the same step that was never
    /// completed, in ascending order of their steps.
    fn candidates(&self) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
        let names = self.names()?;
        let mut found: Vec<_> =
            names.iter().filter_map(|name| step_of(name)).map(|step| (step, self.path(step))).collect();
        for name in &names {
            let Some(leftover) = Leftover::of_name(name).filter(|it| it.kind == LeftoverKind::Replaced)
            else {
                continue;
            };
            if let Some(step) = step_of(OsStr::new(&leftover.of))
                && !names.iter().any(|name| name == OsStr::new(&leftover.of))
            {
                found.push((step, self.folder.join(name)));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Whether every checkpoint of a later step than `step` may be removed: one of another version may not.
    pub fn check_discard_after(&self, step: u64) -> Result<(), CheckpointError> {
        let mut later = self.generations()?.into_iter().filter(|other| *other > step);
        later.find_map(|step| self.another_version(step)).map_or(Ok(()), Err)
    }

    /// The error for the checkpoint of `step`, if it belongs to another version.
    pub(super) fn another_version(&self, step: u64) -> Option<CheckpointError> {
        self.glance(step).err().filter(CheckpointError::is_of_another_version)
    }

    /// The best checkpoint, of those with a metric. If `best.json` is absent, damaged or out of date, the manifests are
    /// used.
    pub fn best(&self) -> Result<Option<BestCheckpoint>, CheckpointError> {
        if let Some(best) = self.recorded_best()
            && self.glance(best.step).is_ok_and(|manifest| manifest.metric == Some(best.metric))
        {
            return Ok(Some(best));
        }
        let manifests = self.generations()?.into_iter().filter_map(|step| self.glance(step).ok());
        Ok(BestCheckpoint::of(manifests.map(|manifest| (manifest.step, manifest.metric))))
    }

    /// The content of `best.json`, if it can be read.
    pub(super) fn recorded_best(&self) -> Option<BestCheckpoint> {
        let text = self.read_small(&self.folder.join(BEST)).ok()?;
        sealed::open(&text).ok().filter(|best: &BestCheckpoint| best.format == BEST_FORMAT)
    }

    /// Reads every byte of the checkpoint of `step` and compares it with the manifest.
    pub(super) fn verify(&self, step: u64) -> Result<Manifest, CheckpointError> {
        let path = self.path(step);
        let manifest = self.manifest(&path)?;
        for (name, entry) in &manifest.files {
            self.read_checked(&path.join(name), entry, |_| Ok(()))?;
        }
        Ok(manifest)
    }

    /// The manifest of `step`, if the listed files exist with the listed sizes.
    pub(super) fn glance(&self, step: u64) -> Result<Manifest, CheckpointError> {
        let path = self.path(step);
        let manifest = self.manifest(&path)?;
        for (name, entry) in &manifest.files {
            self.open_sized(&path.join(name), entry)?;
        }
        Ok(manifest)
    }

    /// Everything in the folder of checkpoints.
    pub(super) fn names(&self) -> Result<Vec<OsString>, CheckpointError> {
        match self.disk.names(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            outcome => outcome.told("list", &self.folder),
        }
    }

    fn load_once<S: DeserializeOwned>(&self, path: &Path) -> Result<Snapshot<S>, CheckpointError> {
        let manifest = self.manifest(path)?;
        let read = |name| {
            let file = path.join(name);
            let mut bytes = Vec::new();
            self.read_checked(&file, manifest.entry(name, path)?, |part| {
                bytes.try_reserve(part.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
                bytes.extend_from_slice(part);
                Ok(())
            })?;
            Ok((file, bytes))
        };
        let (file, state) = read(STATE)?;
        let state = serde_json::from_slice(&state)
            .map_err(|error| CheckpointError::Version { path: file, reason: error.to_string() })?;
        let (file, bytes) = read(TENSORS)?;
        let tensors = tensors::decode(&bytes).map_err(|reason| CheckpointError::damaged(&file, reason))?;
        Ok(Snapshot { step: manifest.step, tensors, state })
    }

    /// The manifest of the checkpoint in `path`, if the folder has exactly the expected files. The version is checked
    /// first, because another one may have other files.
    fn manifest(&self, path: &Path) -> Result<Manifest, CheckpointError> {
        let mut names = match self.disk.names(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CheckpointError::Absent { path: path.to_path_buf() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(CheckpointError::damaged(path, "it is not a folder"));
            }
            outcome => outcome.told("list", path)?,
        };
        names.sort();
        let file = path.join(MANIFEST);
        let manifest = self.read_small(&file).and_then(|text| Manifest::decode(&text, &file));
        if let Err(error) = &manifest
            && error.is_of_another_version()
        {
            return manifest;
        }
        if names != [MANIFEST, STATE, TENSORS] {
            let found: Vec<_> =
                names.iter().map(|name| name.to_string_lossy().escape_debug().to_string()).collect();
            let found = if found.is_empty() { "nothing".into() } else { found.join(", ") };
            let reason = format!("expected the files {MANIFEST}, {STATE} and {TENSORS}, found {found}");
            return Err(CheckpointError::damaged(path, reason));
        }
        let manifest = manifest?;
        check_name(path, manifest.step)?;
        Ok(manifest)
    }

    fn read_small(&self, path: &Path) -> Result<Vec<u8>, CheckpointError> {
        let (mut file, length) = self.disk.open(path).told("open", path)?;
        if length > LONGEST_MANIFEST {
            let reason = format!("expected at most {LONGEST_MANIFEST} bytes, found {length}");
            return Err(CheckpointError::damaged(path, reason));
        }
        let mut text = vec![0; LONGEST_MANIFEST as usize + 1];
        let mut end = 0;
        while end < text.len() {
            match self.disk.read(&mut file, &mut text[end..]).told("read", path)? {
                0 => break,
                read => end += read,
            }
        }
        text.truncate(end);
        Ok(text)
    }

    fn open_sized(&self, path: &Path, entry: &ManifestEntry) -> Result<File, CheckpointError> {
        let (file, length) = self.disk.open(path).told("open", path)?;
        if length == entry.size {
            return Ok(file);
        }
        Err(CheckpointError::damaged(path, format!("expected {} bytes, found {length}", entry.size)))
    }

    /// Passes the content of a file on, part by part, and finally verifies it against `entry`.
    fn read_checked(
        &self,
        path: &Path,
        entry: &ManifestEntry,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), CheckpointError> {
        let mut file = self.open_sized(path, entry)?;
        let mut part = vec![0; PART.min(usize::try_from(entry.size).unwrap_or(PART)) + 1];
        let (mut sum, mut length) = (Sha256::new(), 0_u64);
        loop {
            let read = self.disk.read(&mut file, &mut part).told("read", path)?;
            length += read as u64;
            if read == 0 || length > entry.size {
                break;
            }
            sum.update(&part[..read]);
            take(&part[..read]).told("hold", path)?;
        }
        if length != entry.size {
            let reason = format!("expected {} bytes, found {length}", entry.size);
            return Err(CheckpointError::damaged(path, reason));
        }
        let found = hex(&sum.finalize());
        #[cfg(any(test, feature = "faults"))]
        if self.disk.plays(Planted::UnverifiedLoad) {
            return Ok(());
        }
        if found == entry.sha256 {
            return Ok(());
        }
        let expected = entry.sha256.escape_debug();
        Err(CheckpointError::damaged(path, format!("expected SHA-256 {expected}, found {found}")))
    }
}

impl BestCheckpoint {
    /// The best of these steps; the first of equal ones.
    pub(super) fn of(steps: impl IntoIterator<Item = (u64, Option<f64>)>) -> Option<Self> {
        let mut best: Option<Self> = None;
        for (step, metric) in steps {
            if let Some(metric) = metric
                && best.is_none_or(|best| metric > best.metric)
            {
                best = Some(Self { format: BEST_FORMAT, step, metric });
            }
        }
        best
    }
}

/// Checks that a folder named by a step contains the checkpoint of that step; otherwise it was renamed.
fn check_name(path: &Path, step: u64) -> Result<(), CheckpointError> {
    let real = path.canonicalize().told("find", path)?;
    let name = real.file_name().unwrap_or_default();
    let digits = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    if !digits || name == OsStr::new(&layout::checkpoint(step)) {
        return Ok(());
    }
    Err(CheckpointError::damaged(
        path,
        format!("its manifest is that of step {step}; the folder was renamed"),
    ))
}
