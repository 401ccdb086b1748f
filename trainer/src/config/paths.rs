//! Where relative paths start from. A path of `--set` starts at the working directory. A path of a file starts at that
//! file's folder or, if its key says so, at the folder that another key names, wherever that is set. All paths of a resolved configuration are absolute, so that a run folder means the
//! same anywhere.

use super::entry::Setting;
use super::error::ConfigError;
use super::tables::keys;
use crate::options::OptionKey;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Value;

/// Where the relative paths of a layer start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathBase {
    /// Here, every path: a flag.
    Flag(PathBuf),
    /// A file in this folder.
    File(PathBuf),
    /// Paths are absolute already, or stay as they are: the record of a run.
    Recorded,
}

impl PathBase {
    /// A path as an absolute one, or as it is where another key decides later.
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

/// Lets the remaining relative paths start at the folders that other keys name.
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

/// Lets the paths that lie below the folder that another key named `before`, and that `keeps` does not name, lie below
/// the one that it names now.
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
