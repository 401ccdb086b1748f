//! Relative paths. A path of `--set` is relative to the working directory. A path in a file is relative to the folder of
//! that file or, if its key declares so, to the folder that another key names, wherever that key is set. All paths of a
//! resolved configuration are absolute, so that a run folder has the same meaning in any working directory.

use super::entry::Setting;
use super::error::ConfigError;
use super::tables::keys;
use crate::options::OptionKey;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Value;

/// The base of the relative paths of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathBase {
    /// This folder, for every path: a flag.
    Flag(PathBuf),
    /// The folder of a file.
    File(PathBuf),
    /// None; paths stay as they are: the record of a run.
    Recorded,
}

impl PathBase {
    /// Makes a path absolute, or leaves it if another key determines its base later.
    pub(super) fn place(&self, key: &OptionKey, value: Value) -> Result<Value, ConfigError> {
        let folder = match self {
            Self::Flag(folder) => folder,
            Self::File(folder) if key.starts_at.is_none() => folder,
            Self::File(_) | Self::Recorded => return Ok(value),
        };
        match value.as_str() {
            Some(path) => join(folder, path),
            None => Ok(value),
        }
    }
}

/// Resolves the remaining relative paths against the folders that other keys name.
pub(super) fn enter_folders(entries: &mut BTreeMap<String, Setting>) -> Result<(), ConfigError> {
    for (key, folder) in keys().filter_map(|key| Some((key, key.starts_at?))) {
        let folder = text(entries, folder).to_owned();
        if !folder.is_empty()
            && let Some(entry) = entries.get_mut(key.name)
            && (key.is_path)(&entry.value)
            && let Some(path) = entry.value.as_str()
        {
            entry.value = join(Path::new(&folder), path)?;
        }
    }
    Ok(())
}

/// Moves paths from below the folder `before` of another key to below its current folder, except the keys for which
/// `keeps` is true.
pub(super) fn follow_folders(
    entries: &mut BTreeMap<String, Setting>,
    before: &BTreeMap<String, Setting>,
    keeps: impl Fn(&OptionKey) -> bool,
) -> Result<(), ConfigError> {
    for (key, folder) in keys().filter_map(|key| Some((key, key.starts_at?))).filter(|(key, _)| !keeps(key)) {
        let (old, new) = (text(before, folder), text(entries, folder).to_owned());
        if !old.is_empty()
            && new != old
            && let Some(entry) = entries.get_mut(key.name)
            && let Some(path) = entry.value.as_str()
            && let Ok(rest) = Path::new(path).strip_prefix(old)
        {
            entry.value = join(Path::new(&new), &rest.to_string_lossy())?;
        }
    }
    Ok(())
}

fn text<'a>(entries: &'a BTreeMap<String, Setting>, name: &str) -> &'a str {
    entries.get(name).and_then(|entry| entry.value.as_str()).unwrap_or_default()
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
