//! A resolved configuration with the origin of each value. A run uses, records, compares and prints it.

use super::entry::Setting;
use super::error::ConfigError;
use super::layers::{Layers, wrong_type};
use super::origin::{Origin, PresetKind};
use super::paths::{PathBase, enter_folders};
use super::presets::{PresetSource, Presets, cannot_read};
use super::tables::keys;
use super::{Config, Selection, combinations, idle};
use crate::options::{Values, describe, render};
use protocol::numbers::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::Path;
use toml::Value;

/// A configuration and its origins.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Every setting.
    pub config: Config,
    /// The origin of each value, by `section.key`.
    pub origins: BTreeMap<String, Origin>,
    /// The source of the presets.
    pub presets: PresetSource,
    /// The selected names.
    pub names: SelectedNames,
}

/// Names of the selected data set, model and method; a file has its name without `.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectedNames {
    /// Data set.
    pub data: String,
    /// Model.
    pub model: String,
    /// Method.
    pub method: String,
}

/// A key whose values differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingDifference {
    /// `section.key`, or `names.data`, `names.model`, `names.method`.
    pub key: String,
    /// Value in this configuration, as TOML.
    pub left: String,
    /// Value in the other configuration, as TOML.
    pub right: String,
    /// Origin of this value; `None` for a name.
    pub left_origin: Option<Origin>,
    /// Origin of the other value; `None` for a name.
    pub right_origin: Option<Origin>,
}

impl Resolved {
    /// The configuration of a selection. Relative paths of the command line are relative to `folder`.
    pub fn new(selection: &Selection, presets: &Presets, folder: &Path) -> Result<Self, ConfigError> {
        let resolved = Self::for_images(selection, presets, folder)?;
        combinations::required_weights(&resolved.config)?;
        Ok(resolved)
    }

    /// The same for work that reads images and no weights: their file may be missing.
    pub fn for_images(selection: &Selection, presets: &Presets, folder: &Path) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        let base = presets.base()?;
        layers.add_file(&base.text, &Origin::Base, &start(base.folder.as_deref(), folder))?;
        if let Some(key) = layers.first_missing() {
            return Err(ConfigError::Missing { key: key.to_owned(), place: Origin::Base });
        }
        let Selection { data, model, method, set } = selection;
        let chosen = [data, model, method].map(String::as_str);
        // The user's files override every preset, also presets of a later kind.
        for (kind, name) in PresetKind::ALL.into_iter().zip(chosen) {
            if file_stem(name).is_none() {
                add_preset(&mut layers, kind, name, presets, folder)?;
            }
        }
        for path in chosen.into_iter().filter(|name| file_stem(name).is_some()) {
            add_user_file(&mut layers, path, folder)?;
        }
        let name = |name: &str| file_stem(name).unwrap_or(name).to_owned();
        let names = SelectedNames { data: name(data), model: name(model), method: name(method) };
        for argument in set {
            layers.add_set(argument, &PathBase::Flag(folder.to_owned()))?;
        }
        let mut entries = layers.into_entries();
        enter_folders(&mut entries)?;
        Self::from_entries(entries, names, presets.source().clone())
    }

    /// Loads the typed sections, and checks ranges and combinations.
    pub(super) fn from_entries(
        entries: BTreeMap<String, Setting>,
        names: SelectedNames,
        presets: PresetSource,
    ) -> Result<Self, ConfigError> {
        let values = load(&entries)?;
        let config = Config::of(&values);
        combinations::conflicts(&config, &entries)?;
        idle::check(&values, &entries)?;
        combinations::required(&config)?;
        let origins = entries.into_iter().map(|(key, entry)| (key, entry.origin)).collect();
        Ok(Self { config, origins, presets, names })
    }

    /// The differences between this configuration and another.
    pub fn diff(&self, other: &Self) -> Vec<SettingDifference> {
        let (mine, theirs) = (self.names.pairs(), other.names.pairs());
        let names = mine.into_iter().zip(theirs).filter(|((_, left), (_, right))| left != right);
        let names = names.map(|((name, left), (_, right))| SettingDifference {
            key: format!("names.{name}"),
            left: render(&Value::String(left.to_owned())),
            right: render(&Value::String(right.to_owned())),
            left_origin: None,
            right_origin: None,
        });
        let values = self.config.pairs().into_iter().zip(other.config.pairs());
        let values = values.filter(|((_, left), (_, right))| left != right);
        let values = values.map(|((key, left), (_, right))| SettingDifference {
            key: key.to_owned(),
            left: render(&left),
            right: render(&right),
            left_origin: self.origins.get(key).cloned(),
            right_origin: other.origins.get(key).cloned(),
        });
        names.chain(values).collect()
    }

    /// SHA-256 of names and values, in hexadecimal: equal configurations have equal hashes, independent of origins.
    pub fn hash(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.names.pairs() {
            let _ = writeln!(text, "names.{name} = {}", render(&Value::String(value.to_owned())));
        }
        for (key, value) in self.config.pairs() {
            let _ = writeln!(text, "{key} = {}", render(&value));
        }
        hex(&Sha256::digest(text.as_bytes()))
    }

    /// Names, values, origins and the presets used, as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        let origins: BTreeMap<_, _> =
            self.origins.iter().map(|(key, origin)| (key.as_str(), origin.to_string())).collect();
        serde_json::json!({
            "names": self.names,
            "config": self.config,
            "origins": origins,
            "presets": self.presets.to_string(),
            "hash": self.hash(),
        })
    }
}

impl SelectedNames {
    /// Field names and values.
    pub(super) fn pairs(&self) -> [(&'static str, &str); 3] {
        [("data", &self.data), ("model", &self.model), ("method", &self.method)]
    }
}

impl fmt::Display for SettingDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |f: &mut fmt::Formatter<'_>, value: &str, origin: Option<&Origin>| match origin {
            Some(origin) => write!(f, "{value} (from {origin})"),
            None => f.write_str(value),
        };
        write!(f, "`{}`: ", self.key)?;
        side(f, &self.left, self.left_origin.as_ref())?;
        f.write_str(" -> ")?;
        side(f, &self.right, self.right_origin.as_ref())
    }
}

/// Relative paths of a file are relative to its folder; those of an embedded preset, to the working directory.
fn start(file_folder: Option<&Path>, working: &Path) -> PathBase {
    PathBase::File(file_folder.unwrap_or(working).to_owned())
}

fn add_preset(
    layers: &mut Layers,
    kind: PresetKind,
    name: &str,
    presets: &Presets,
    folder: &Path,
) -> Result<(), ConfigError> {
    let file = presets.read(kind, name)?;
    let origin = Origin::Preset(kind, name.to_owned());
    layers.add_file(&file.text, &origin, &start(file.folder.as_deref(), folder))
}

/// A file of the user, in place of a preset or with additional settings.
fn add_user_file(layers: &mut Layers, name: &str, folder: &Path) -> Result<(), ConfigError> {
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).map_err(|error| cannot_read(&path, &error))?;
    layers.add_file(&text, &Origin::file(name), &start(path.parent(), folder))
}

/// The name of a file of the user; `None` for the name of a preset.
fn file_stem(name: &str) -> Option<&str> {
    Path::new(name).file_name()?.to_str()?.strip_suffix(".toml")
}

/// The values, after their types and ranges were checked.
fn load(entries: &BTreeMap<String, Setting>) -> Result<Values, ConfigError> {
    let mut values = Values::default();
    for (key, entry) in keys().filter_map(|key| Some((key, entries.get(key.name)?))) {
        if !values.set(key, &entry.value) {
            return Err(wrong_type(key, &entry.value, entry.origin.clone()));
        }
        if let Some(limit) = key.limit.filter(|limit| !(limit.holds)(&entry.value)) {
            let (expected, found) = ((limit.words)(), describe(&entry.value));
            let (key, origin) = (key.name.to_owned(), entry.origin.clone());
            return Err(ConfigError::OutOfRange { key, expected, found, origin });
        }
    }
    Ok(values)
}
