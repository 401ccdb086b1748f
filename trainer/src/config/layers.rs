//! Layers of files and flags. The key and type of every value are checked in its layer, so that an error names the
//! place, and every value keeps its origin.

use super::entry::Setting;
use super::error::ConfigError;
use super::nearest::nearest;
use super::origin::Origin;
use super::paths::PathBase;
use super::tables::{OptionTable, find_key, keys, tables};
use crate::options::{OptionKey, describe};
use std::collections::BTreeMap;
use toml::Value;

/// Values so far, by `section.key`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Layers {
    entries: BTreeMap<String, Setting>,
}

impl Layers {
    /// The values so far.
    pub(super) fn of(entries: BTreeMap<String, Setting>) -> Self {
        Self { entries }
    }

    /// Adds a file as a layer. Its relative paths are relative to `start`.
    pub(super) fn add_file(
        &mut self,
        text: &str,
        origin: &Origin,
        start: &PathBase,
    ) -> Result<(), ConfigError> {
        self.add_table(parse(text, origin)?, origin, start)
    }

    /// Adds a parsed file as a layer.
    pub(super) fn add_table(
        &mut self,
        file: toml::Table,
        origin: &Origin,
        start: &PathBase,
    ) -> Result<(), ConfigError> {
        for (name, value) in file {
            let Some(table) = tables().iter().find(|table| table.name == name) else {
                return Err(unknown_key(&name, origin));
            };
            let Value::Table(values) = value else { return Err(unknown_key(&name, origin)) };
            for key in &table.keys {
                refuse_both_names(key, &values, origin)?;
            }
            for (name, value) in values {
                let full = format!("{}.{name}", table.name);
                let Some(key) = find_key(&full) else { return Err(unknown_key(&full, origin)) };
                self.insert(key, value, origin.clone(), start)?;
            }
        }
        Ok(())
    }

    /// Adds a `--set` flag as a layer.
    pub(super) fn add_set(&mut self, argument: &str, start: &PathBase) -> Result<(), ConfigError> {
        let Some((full, text)) = argument.split_once('=') else {
            return Err(ConfigError::SetWithoutValue { argument: argument.escape_debug().to_string() });
        };
        let (full, origin) = (full.trim(), Origin::set(argument));
        let Some(key) = find_key(full) else { return Err(unknown_key(full, &origin)) };
        self.insert(key, value_of_flag(key, text), origin, start)
    }

    fn insert(
        &mut self,
        key: &OptionKey,
        value: Value,
        origin: Origin,
        start: &PathBase,
    ) -> Result<(), ConfigError> {
        if !key.accepts(&value) {
            return Err(wrong_type(key, &value, origin));
        }
        let value = if (key.is_path)(&value) { start.place(key, value)? } else { value };
        self.entries.insert(key.name.to_owned(), Setting { value, origin });
        Ok(())
    }

    /// The first key, in the order of the tables, that no layer sets.
    pub(super) fn first_missing(&self) -> Option<&'static str> {
        keys().map(|key| key.name).find(|name| !self.entries.contains_key(*name))
    }

    /// The values.
    pub(super) fn into_entries(self) -> BTreeMap<String, Setting> {
        self.entries
    }
}

/// A TOML file.
pub(super) fn parse(text: &str, place: &Origin) -> Result<toml::Table, ConfigError> {
    text.parse::<toml::Table>().map_err(|error| ConfigError::Syntax {
        place: place.clone(),
        line: error
            .span()
            .map(|span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1),
        reason: error.message().replace('\n', ", "),
    })
}

/// Parses the value as TOML if the key accepts the result, else uses the text itself: a folder named `2024` is a text.
fn value_of_flag(key: &OptionKey, text: &str) -> Value {
    let verbatim = Value::String(text.to_owned());
    let Ok(literal) = text.trim().parse::<Value>() else { return verbatim };
    if !key.accepts(&literal) && key.accepts(&verbatim) { verbatim } else { literal }
}

/// The error for a value of the wrong type.
pub(super) fn wrong_type(key: &OptionKey, value: &Value, origin: Origin) -> ConfigError {
    let words = (key.words)();
    let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let unknown =
        values.iter().filter_map(Value::as_str).find(|text| words.iter().all(|word| word.word != *text));
    let nearest = unknown.and_then(|text| nearest(text, words.iter().map(|word| word.word)));
    let (expected, found) = ((key.expected)(), describe(value));
    ConfigError::WrongType { key: key.name.to_owned(), expected, found, origin, nearest }
}

/// Refuses a file that sets a key under both of its names.
fn refuse_both_names(key: &OptionKey, values: &toml::Table, place: &Origin) -> Result<(), ConfigError> {
    match key.formerly {
        Some(former)
            if values.contains_key(key.short)
                && former.rsplit('.').next().is_some_and(|name| values.contains_key(name)) =>
        {
            Err(ConfigError::BothNames { key: key.name, former, place: place.clone() })
        }
        _ => Ok(()),
    }
}

fn unknown_key(full: &str, place: &Origin) -> ConfigError {
    let hint = if *place == Origin::Run {
        "; this version has no such key\nhint: use the version that wrote the run".to_owned()
    } else if let Some(table) = tables().iter().find(|table| table.name == full) {
        format!(": it is a section, with the keys {}", names(table))
    } else if let Some(known) = meant(full) {
        format!("\nhint: did you mean `{known}`?")
    } else if let Some(table) = table_of(full) {
        format!("; the keys of `{}` are {}", table.name, names(table))
    } else {
        let names: Vec<_> = tables().iter().map(|table| table.name).collect();
        format!("; the sections are {}", names.join(", "))
    };
    ConfigError::UnknownKey { key: full.escape_debug().to_string(), place: place.clone(), hint }
}

/// The key to suggest: one of the same name in another section or without a section, else one with these
/// initials, else the most similar one.
fn meant(full: &str) -> Option<&'static str> {
    let name = full.rsplit('.').next().unwrap_or(full);
    let mut same_name = keys()
        .filter(|key| key.short == name || initials(key.short).is_some_and(|initials| initials == name))
        .map(|key| key.name);
    nearest(full, same_name.clone()).or_else(|| same_name.next()).or_else(|| match table_of(full) {
        // Within the right section only the name is compared: a shared prefix such as `distributed.` is no evidence.
        Some(table) => {
            let near = nearest(name, table.keys.iter().map(|key| key.short))?;
            table.keys.iter().find(|key| key.short == near).map(|key| key.name)
        }
        None => nearest(full, keys().map(|key| key.name)),
    })
}

/// `lr` for `learning_rate`; a single word has no initials.
fn initials(name: &str) -> Option<String> {
    name.contains('_').then(|| name.split('_').filter_map(|word| word.chars().next()).collect())
}

fn table_of(full: &str) -> Option<&'static OptionTable> {
    let (name, _) = full.split_once('.')?;
    tables().iter().find(|table| table.name == name)
}

fn names(table: &OptionTable) -> String {
    table.keys.iter().map(|key| key.short).collect::<Vec<_>>().join(", ")
}
