//! Laying files and flags over each other: every value is checked for its key and type where it is written,
//! so that a refusal names the place, and keeps its origin.

use super::error::ConfigError;
use super::kind::{describe, render};
use super::nearest::nearest;
use super::origin::Origin;
use super::paths::Start;
use super::section::{Key, Section};
use super::{SECTIONS, find_key, keys};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The value, of the key's type.
    pub(super) value: Value,
    /// Where it was written.
    pub(super) origin: Origin,
}

/// Values so far, by `section.key`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Layers {
    entries: BTreeMap<String, Entry>,
}

impl Layers {
    /// What is there already.
    pub(super) fn of(entries: BTreeMap<String, Entry>) -> Self {
        Self { entries }
    }

    /// Lays a file over what is there. `start` is where its relative paths start from.
    pub(super) fn add_file(&mut self, text: &str, origin: &Origin, start: &Start) -> Result<(), ConfigError> {
        self.add_table(parse(text, origin)?, origin, start)
    }

    /// Lays a parsed file over what is there.
    pub(super) fn add_table(
        &mut self,
        table: Table,
        origin: &Origin,
        start: &Start,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let Some(section) = SECTIONS.into_iter().find(|section| section.name == name) else {
                return Err(unknown_key(&name, origin));
            };
            let Value::Table(values) = value else { return Err(unknown_key(&name, origin)) };
            for (name, value) in values {
                let full = format!("{}.{name}", section.name);
                let Some(key) = section.keys.iter().find(|key| key.name == name) else {
                    return Err(unknown_key(&full, origin));
                };
                self.insert(full, key, value, origin.clone(), start)?;
            }
        }
        Ok(())
    }

    /// Lays a `--set` flag over what is there.
    pub(super) fn add_set(&mut self, argument: &str, start: &Start) -> Result<(), ConfigError> {
        let Some((full, text)) = argument.split_once('=') else {
            return Err(ConfigError::SetWithoutValue { argument: argument.escape_debug().to_string() });
        };
        let (full, origin) = (full.trim(), Origin::set(argument));
        let Some((_, key)) = find_key(full) else { return Err(unknown_key(full, &origin)) };
        self.insert(full.to_owned(), key, value_of_flag(key, text), origin, start)
    }

    fn insert(
        &mut self,
        full: String,
        key: &Key,
        value: Value,
        origin: Origin,
        start: &Start,
    ) -> Result<(), ConfigError> {
        if !(key.accepts)(&value) {
            return Err(wrong_type(full, key, &value, origin));
        }
        let is_word = key.words.iter().any(|word| value.as_str() == Some(word.word));
        let value = if key.is_path && !is_word { start.place(&full, value)? } else { value };
        self.entries.insert(full, Entry { value, origin });
        Ok(())
    }

    /// The first key, in the order of the sections, that no layer gives.
    pub(super) fn first_missing(&self) -> Option<String> {
        keys().map(|(section, key)| full_name(section, key)).find(|full| !self.entries.contains_key(full))
    }

    /// The values.
    pub(super) fn into_entries(self) -> BTreeMap<String, Entry> {
        self.entries
    }
}

/// `section.key`.
pub(super) fn full_name(section: &Section, key: &Key) -> String {
    format!("{}.{}", section.name, key.name)
}

/// A TOML file.
pub(super) fn parse(text: &str, place: &Origin) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|error| ConfigError::Syntax {
        place: place.clone(),
        line: error
            .span()
            .map(|span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1),
        reason: error.message().replace('\n', ", "),
    })
}

/// A TOML literal where it is one that the key takes, else the text itself: a folder named `2024` is a text.
fn value_of_flag(key: &Key, text: &str) -> Value {
    let verbatim = Value::String(text.to_owned());
    let Ok(literal) = text.trim().parse::<Value>() else { return verbatim };
    if !(key.accepts)(&literal) && (key.accepts)(&verbatim) { verbatim } else { literal }
}

fn wrong_type(full: String, key: &Key, value: &Value, origin: Origin) -> ConfigError {
    let words = key.words.iter().map(|word| word.word);
    let nearest = value.as_str().and_then(|text| nearest(text, words));
    ConfigError::WrongType { key: full, expected: (key.expected)(), found: describe(value), origin, nearest }
}

fn unknown_key(full: &str, place: &Origin) -> ConfigError {
    let hint = if *place == Origin::Run {
        "; this version has no such key: use the version that wrote the run".to_owned()
    } else if let Some(section) = SECTIONS.into_iter().find(|section| section.name == full) {
        format!(": it is a section, with the keys {}", names(section))
    } else if let Some(known) = meant(full) {
        format!("; did you mean `{known}`?")
    } else if let Some(section) = section_of(full) {
        format!("; the keys of `{}` are {}", section.name, names(section))
    } else {
        let sections = SECTIONS.map(|section| section.name);
        format!("; the sections are {}", sections.join(", "))
    };
    ConfigError::UnknownKey { key: full.escape_debug().to_string(), place: place.clone(), hint }
}

/// The key that was meant: one of the same name in another section or without one, else one of these
/// initials, else one that looks alike.
fn meant(full: &str) -> Option<String> {
    let name = full.rsplit('.').next().unwrap_or(full);
    let same_name = keys()
        .filter(|(_, key)| key.name == name || initials(key.name).is_some_and(|initials| initials == name))
        .map(|(section, key)| full_name(section, key));
    let alike =
        |candidates: Vec<String>| nearest(full, candidates.iter().map(String::as_str)).map(str::to_owned);
    alike(same_name.clone().collect()).or_else(|| same_name.clone().next()).or_else(|| {
        // Within the right section the name alone is compared: a shared `distributed.` says nothing.
        if let Some(section) = section_of(full) {
            let near = nearest(name, section.keys.iter().map(|key| key.name))?;
            return Some(format!("{}.{near}", section.name));
        }
        alike(keys().map(|(section, key)| full_name(section, key)).collect())
    })
}

/// `lr` of `learning_rate`; a single word has none.
fn initials(name: &str) -> Option<String> {
    name.contains('_').then(|| name.split('_').filter_map(|word| word.chars().next()).collect())
}

fn section_of(full: &str) -> Option<&'static Section> {
    let (name, _) = full.split_once('.')?;
    SECTIONS.into_iter().find(|section| section.name == name)
}

fn names(section: &Section) -> String {
    section.keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}

/// A setting with its value and origin, for a message.
pub(super) fn setting(full: &str, entry: &Entry) -> String {
    format!("`{full} = {}` (from {})", render(&entry.value), entry.origin)
}
