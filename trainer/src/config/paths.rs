//! Where relative paths start from. A path of `--set` starts at the working directory; `data.root`, `model.weights`
//! and the files of the head start at the folder of the file that gives them; the other paths of a file start at
//! `data.root`, wherever that is set. All paths of a resolved configuration are absolute, so that a run folder means the
//! same anywhere.

use super::error::ConfigError;
use super::layers::Entry;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Value;

/// Paths that start at `data.root` when a file gives them.
const IN_ROOT: [&str; 4] = ["data.train_list", "data.test_list", "data.class_names", "data.images"];

/// Where the relative paths of a layer start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// Here, every path: a flag.
    Flag(PathBuf),
    /// A file in this folder.
    File(PathBuf),
    /// Paths are absolute already, or stay as they are: the record of a run.
    Recorded,
}

impl Start {
    /// A path as an absolute one, or as it is where `data.root` decides later.
    pub(super) fn place(&self, full: &str, value: Value) -> Result<Value, ConfigError> {
        let folder = match self {
            Self::Flag(folder) => folder,
            Self::File(folder) if !IN_ROOT.contains(&full) => folder,
            Self::File(_) | Self::Recorded => return Ok(value),
        };
        match value.as_str() {
            Some(path) if !path.is_empty() => join(folder, path),
            _ => Ok(value),
        }
    }
}

/// Lets the remaining relative paths start at `data.root`.
pub(super) fn enter_root(entries: &mut BTreeMap<String, Entry>) -> Result<(), ConfigError> {
    let root = entries.get("data.root").and_then(|entry| entry.value.as_str()).unwrap_or_default().to_owned();
    if root.is_empty() {
        return Ok(());
    }
    for full in IN_ROOT {
        if let Some(entry) = entries.get_mut(full)
            && let Some(path) = entry.value.as_str().filter(|path| !path.is_empty())
        {
            entry.value = join(Path::new(&root), path)?;
        }
    }
    Ok(())
}

/// Lets the paths that lie below `old`, a former `data.root`, and that `keeps` does not name, lie below the present one.
pub(super) fn follow_root(
    entries: &mut BTreeMap<String, Entry>,
    old: &str,
    keeps: impl Fn(&str) -> bool,
) -> Result<(), ConfigError> {
    let root = entries.get("data.root").and_then(|entry| entry.value.as_str()).unwrap_or_default().to_owned();
    if old.is_empty() || root == old {
        return Ok(());
    }
    for full in IN_ROOT.into_iter().filter(|full| !keeps(full)) {
        if let Some(entry) = entries.get_mut(full)
            && let Some(path) = entry.value.as_str()
            && let Ok(rest) = Path::new(path).strip_prefix(old)
        {
            entry.value = join(Path::new(&root), &rest.to_string_lossy())?;
        }
    }
    Ok(())
}

fn join(folder: &Path, path: &str) -> Result<Value, ConfigError> {
    let joined = folder.join(path);
    let whole = std::path::absolute(&joined)
        .map_err(|error| ConfigError::Read { path: joined.clone(), reason: error.to_string() })?;
    match whole.to_str() {
        Some(text) => Ok(Value::String(text.to_owned())),
        None => Err(ConfigError::NotUtf8 { path: whole }),
    }
}
