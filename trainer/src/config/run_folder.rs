//! `config.toml` of a run folder: the full configuration, with the origin of each value in the table `[origins]`.
//!
//! A run stays readable when the program gets new keys: a key that is absent in the record gets the default of the
//! presets that the run was made with, or if that would change results, the value that the program had before. A key that this program does not know is refused.

use super::error::ConfigError;
use super::layers::{Layers, parse};
use super::origin::{Origin, PresetKind};
use super::paths::PathBase;
use super::presets::{PresetSource, Presets};
use super::resolved::{Resolved, SelectedNames};
use super::tables::{find_key, keys, tables};
use crate::options::render;
use protocol::layout::CONFIG_FORMAT;
use std::collections::BTreeMap;
use std::fmt::Write;
use toml::{Table, Value};

/// The table of origins. Up to format 1 an origin was a comment beside its value: see [`commented_origins`].
const ORIGINS: &str = "origins";
const COMMENT: &str = "# from ";

/// Values of keys in runs that were made before these keys, where the default gives other results. The pictures of the
/// demo are not decoded.
const BEFORE: &str = "[data]\ndecode = \"exact\"\n";

impl Resolved {
    /// The full configuration as TOML, then the origin of each value.
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "# Configuration of a run, from the {}.\nformat = {CONFIG_FORMAT}\n\n[names]\n",
            self.presets
        );
        for (name, value) in self.names.pairs() {
            assign(&mut text, name, &Value::String(value.to_owned()));
        }
        let values = self.config.values();
        for table in tables() {
            let _ = writeln!(text, "\n[{}]", table.name);
            for key in &table.keys {
                if let Some(value) = values.get(key.name) {
                    assign(&mut text, key.short, value);
                }
            }
        }
        let _ = writeln!(text, "\n[{ORIGINS}]");
        for key in keys() {
            if let Some(origin) = self.origins.get(key.name) {
                assign(&mut text, key.name, &Value::String(origin.to_string()));
            }
        }
        text
    }

    /// Parses the output of [`Resolved::to_toml`]. A value without a recorded origin has the origin [`Origin::Run`]; a
    /// value that an older version of the program did not write has [`Origin::Absent`].
    pub fn from_run_folder(text: &str) -> Result<Self, ConfigError> {
        let mut table = parse(text, &Origin::Run)?;
        check_format(&mut table)?;
        let names = names(&mut table)?;
        let mut origins = match table.remove(ORIGINS) {
            Some(recorded) => recorded_origins(&recorded),
            None => commented_origins(text),
        };
        let mut layers = defaults(&names, &origins)?;
        if table.get("data").and_then(|data| data.get("layout")?.as_str()) != Some("demo") {
            layers.add_file(BEFORE, &Origin::Absent, &PathBase::Recorded)?;
        }
        layers.add_table(table, &Origin::Run, &PathBase::Recorded)?;
        let mut entries = layers.into_entries();
        for (full, entry) in &mut entries {
            if entry.origin == Origin::Run
                && let Some(origin) = origins.remove(full.as_str())
            {
                entry.origin = origin;
            }
        }
        Self::from_entries(entries, names, PresetSource::Run)
    }

    /// Keys that are absent in the record of an older run. Their defaults are used.
    pub fn absent(&self) -> Vec<&str> {
        let absent = self.origins.iter().filter(|(_, origin)| **origin == Origin::Absent);
        absent.map(|(key, _)| key.as_str()).collect()
    }
}

/// Refuses a record that only a newer version of the program understands.
fn check_format(table: &mut Table) -> Result<(), ConfigError> {
    match table.remove("format") {
        Some(Value::Integer(format)) if format <= CONFIG_FORMAT => Ok(()),
        None => Ok(()),
        Some(found) => Err(ConfigError::NewerRun { found: render(&found), known: CONFIG_FORMAT }),
    }
}

/// The images and the model of every demo run whose record does not name them: the presets choose others now.
const FIRST_DEMO: &str = "[data]\ndemo_style = \"cluttered\"\n[model]\nembedded = \"patch4\"\n";

/// The default of every key: from the program's presets of the names that the run was made with.
fn defaults(names: &SelectedNames, recorded: &Origins) -> Result<Layers, ConfigError> {
    let (presets, mut layers) = (Presets::embedded(), Layers::default());
    layers.add_file(&presets.base()?.text, &Origin::Absent, &PathBase::Recorded)?;
    for (kind, (_, name)) in PresetKind::ALL.into_iter().zip(names.pairs()) {
        // A file of the user may have the name of a preset.
        let origin = Origin::Preset(kind, name.to_owned());
        if recorded.values().any(|recorded| *recorded == origin)
            && let Ok(preset) = presets.read(kind, name)
        {
            layers.add_file(&preset.text, &Origin::Absent, &PathBase::Recorded)?;
        }
    }
    layers.add_file(FIRST_DEMO, &Origin::Absent, &PathBase::Recorded)?;
    Ok(layers)
}

fn assign(text: &mut String, name: &str, value: &Value) {
    let _ = writeln!(text, "{name} = {}", render(value));
}

/// Removes and returns the table of names.
fn names(table: &mut Table) -> Result<SelectedNames, ConfigError> {
    let missing = |name: &str| ConfigError::Missing { key: format!("names.{name}"), place: Origin::Run };
    let names = table.remove("names").ok_or_else(|| missing("data"))?;
    let name = |name: &str| {
        let value = names.get(name).and_then(Value::as_str);
        value.map(str::to_owned).ok_or_else(|| missing(name))
    };
    Ok(SelectedNames { data: name("data")?, model: name("model")?, method: name("method")? })
}

/// Origins by key.
type Origins = BTreeMap<&'static str, Origin>;

/// The origins in the table of that name. Entries that are not origins of known keys are ignored.
fn recorded_origins(table: &Value) -> Origins {
    let sections = table.as_table().into_iter().flatten();
    let keys = sections.flat_map(|(section, keys)| {
        keys.as_table().into_iter().flatten().map(move |(name, origin)| (format!("{section}.{name}"), origin))
    });
    keys.filter_map(|(full, origin)| Some((find_key(&full)?.name, Origin::parse(origin.as_str()?)))).collect()
}

/// The origins of a record of format 1: comments after values, which were written on one line each.
fn commented_origins(text: &str) -> Origins {
    let mut section = "";
    let mut origins = Origins::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((name, rest)) = line.split_once(" = ")
            && let Some(key) = find_key(&format!("{section}.{name}"))
            && let Some(origin) = comment(rest)
        {
            origins.insert(key.name, Origin::parse(origin));
        }
    }
    origins
}

/// The origin after a value; the value itself may contain text that looks like one.
fn comment(assigned: &str) -> Option<&str> {
    let starts = assigned.match_indices(COMMENT).map(|(at, _)| at);
    let is_value = |text: &str| format!("value = {text}").parse::<Table>().is_ok();
    let start = starts.into_iter().find(|start| is_value(&assigned[..*start]))?;
    Some(&assigned[start + COMMENT.len()..])
}
