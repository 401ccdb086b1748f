//! `manifest.json`: the list of a checkpoint's files.

use super::{CheckpointError, sealed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The manifest's name.
pub(super) const MANIFEST: &str = "manifest.json";
/// The name of the file with the tensors.
pub(super) const TENSORS: &str = "tensors.safetensors";
/// The name of the file with everything else.
pub(super) const STATE: &str = "state.json";

/// The only format so far. In every later format, `manifest.json` must keep its name, its checksum and this number, so
/// that every version can distinguish a checkpoint of another version from a damaged one.
const FORMAT: u32 = 1;

/// The files of a checkpoint, with its step and metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: u32,
    /// Steps done.
    pub(super) step: u64,
    /// Its metric, if known. Stored here too, so that the best one can be found without `best.json`.
    pub(super) metric: Option<f64>,
    /// The other files.
    pub(super) files: BTreeMap<String, ManifestEntry>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestEntry {
    pub(super) size: u64,
    pub(super) sha256: String,
}

#[derive(Deserialize)]
struct FormatVersion {
    format: u32,
}

impl Manifest {
    pub(super) fn new(step: u64, metric: Option<f64>, tensors: ManifestEntry, state: ManifestEntry) -> Self {
        let files = BTreeMap::from([(TENSORS.to_owned(), tensors), (STATE.to_owned(), state)]);
        Self { format: FORMAT, step, metric, files }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, CheckpointError> {
        sealed::seal(self)
            .map_err(|error| CheckpointError::Snapshot { step: self.step, reason: error.to_string() })
    }

    pub(super) fn decode(text: &[u8], path: &Path) -> Result<Self, CheckpointError> {
        let damaged = |reason: String| CheckpointError::damaged(path, reason);
        let FormatVersion { format } = sealed::open(text).map_err(damaged)?;
        if format != FORMAT {
            let reason = format!("expected format {FORMAT}, found {format}");
            return Err(CheckpointError::Version { path: path.to_path_buf(), reason });
        }
        let manifest: Self = sealed::open(text).map_err(damaged)?;
        if !manifest.files.keys().map(String::as_str).eq([STATE, TENSORS]) {
            let found = manifest.files.keys().map(|name| name.escape_debug().to_string()).collect::<Vec<_>>();
            return Err(damaged(format!(
                "expected the files {STATE} and {TENSORS}, found {}",
                found.join(", ")
            )));
        }
        Ok(manifest)
    }

    /// The entry of [`TENSORS`] or [`STATE`].
    pub(super) fn entry(&self, name: &str, path: &Path) -> Result<&ManifestEntry, CheckpointError> {
        self.files.get(name).ok_or_else(|| CheckpointError::damaged(path, format!("it does not list {name}")))
    }
}
