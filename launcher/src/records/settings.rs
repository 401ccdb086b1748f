//! `config.toml`: every setting with its origin.

use super::{RecordError, presets};
use protocol::layout::CONFIG_FORMAT;
use std::collections::BTreeMap;
use std::path::Path;

/// Tables of the file that are not sections of the configuration.
const NAMES: &str = "names";
const ORIGINS: &str = "origins";
const FORMAT: &str = "format";
/// Up to format 1, an origin was a comment beside its value.
const COMMENT: &str = "# from ";

/// The settings of a run by `section.key`, as TOML.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Names of the data, model and method presets.
    pub names: [String; 3],
    /// The values.
    pub values: BTreeMap<String, String>,
    /// Where each value comes from.
    pub origins: BTreeMap<String, String>,
}

/// A setting that is not that of the presets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedSetting {
    /// `section.key`
    pub key: String,
    /// Its value.
    pub value: String,
    /// The value of the presets, if this version has them.
    pub preset: Option<String>,
    /// Where the value comes from.
    pub origin: String,
}

impl Settings {
    /// Reads the file; none if it does not exist.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        let Some(bytes) = super::bytes(path)? else { return Ok(None) };
        let content = |reason| RecordError::Content {
            path: path.to_owned(),
            line: None,
            what: "the configuration of a run",
            reason,
        };
        let text = String::from_utf8(bytes).map_err(|error| content(error.to_string()))?;
        let mut table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| content(error.message().to_owned()))?;
        match table.remove(FORMAT) {
            Some(format) if format.as_integer().is_none_or(|format| format > CONFIG_FORMAT) => {
                let (found, known) = (format.to_string(), format!("1 to {CONFIG_FORMAT}"));
                Err(RecordError::Format { path: path.to_owned(), found, known })
            }
            _ => Ok(Some(Self::of(table, &text))),
        }
    }

    fn of(mut table: toml::Table, text: &str) -> Self {
        let names = table.remove(NAMES).unwrap_or(toml::Value::Boolean(false));
        let name = |kind: &str| names.get(kind).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        let origins = match table.remove(ORIGINS) {
            Some(toml::Value::Table(origins)) => flat(&origins)
                .into_iter()
                .map(|(key, value)| (key, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
                .collect(),
            _ => commented_origins(text),
        };
        let values = flat(&table).into_iter().map(|(key, value)| (key, value.to_string())).collect();
        Self { names: ["data", "model", "method"].map(name), values, origins }
    }

    /// The settings that the user made on the command line or in a file.
    pub fn changed(&self) -> Vec<ChangedSetting> {
        let of_user = |origin: &String| origin.starts_with("--set") || origin.starts_with("file ");
        let changed = self.origins.iter().filter(|(_, origin)| of_user(origin));
        let values = changed.filter_map(|(key, origin)| Some((key, self.values.get(key)?, origin)));
        let presets = presets::values(&self.names);
        values
            .map(|(key, value, origin)| ChangedSetting {
                key: key.clone(),
                value: value.clone(),
                preset: presets.get(key).cloned(),
                origin: origin.clone(),
            })
            .collect()
    }
}

/// The values of nested tables by their dotted keys.
pub(super) fn flat(table: &toml::Table) -> Vec<(String, toml::Value)> {
    let mut values = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => {
                values.extend(flat(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            value => values.push((key.clone(), value.clone())),
        }
    }
    values
}

fn commented_origins(text: &str) -> BTreeMap<String, String> {
    let mut section = "";
    let mut origins = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((key, rest)) = line.split_once(" = ")
            && let Some((_, origin)) = rest.rsplit_once(COMMENT)
        {
            origins.insert(format!("{section}.{}", key.trim()), origin.to_owned());
        }
    }
    origins
}
