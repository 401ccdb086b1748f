//! `config.toml` of a run folder: the whole configuration, with the origin of each value as a comment.
//!
//! A run stays readable when the program gets new keys: one that its record lacks has the value that it would have had,
//! the default of the presets that the run was made with. A key that this program does not know is refused.

use super::error::ConfigError;
use super::layers::{Layers, parse};
use super::origin::{Origin, PresetKind};
use super::paths::PathBase;
use super::presets::{PresetSource, Presets};
use super::resolved::{Resolved, SelectedNames};
use super::tables::{find_key, tables};
use crate::options::render;
use std::collections::BTreeMap;
use std::fmt::Write;
use toml::{Table, Value};

/// Column of the origins, where the value is not longer.
const COLUMN: usize = 48;
const FROM: &str = "# from ";
/// The format of the record. It grows when a key gets another meaning, not with a new key or another name, for former
/// names are still read. A record without a number has the first.
const FORMAT: i64 = 1;

impl Resolved {
    /// The whole configuration as TOML, each value with the comment `# from ORIGIN`.
    pub fn to_toml(&self) -> String {
        let mut text =
            format!("# Configuration of a run, from the {}.\nformat = {FORMAT}\n\n[names]\n", self.presets);
        for (name, value) in self.names.pairs() {
            let _ = writeln!(text, "{}", assignment(name, &Value::String(value.to_owned())));
        }
        let values = self.config.values();
        for table in tables() {
            let _ = writeln!(text, "\n[{}]", table.name);
            for key in &table.keys {
                if let (Some(value), Some(origin)) = (values.get(key.name), self.origins.get(key.name)) {
                    let assignment = assignment(key.short, value);
                    let _ = writeln!(text, "{assignment:<COLUMN$} {FROM}{origin}");
                }
            }
        }
        text
    }

    /// Reads what [`Resolved::to_toml`] wrote. A value whose comment is gone has the
    /// origin [`Origin::Run`]; one that an older version of the program did not write has [`Origin::Absent`].
    pub fn from_run_folder(text: &str) -> Result<Self, ConfigError> {
        let mut table = parse(text, &Origin::Run)?;
        check_format(&mut table)?;
        let names = names(&mut table)?;
        let mut layers = defaults(&names, text)?;
        layers.add_table(table, &Origin::Run, &PathBase::Recorded)?;
        let mut entries = layers.into_entries();
        let recorded = origins(text);
        for (full, entry) in &mut entries {
            let value = render(&entry.value);
            let origin = recorded
                .get(full.as_str())
                .filter(|_| entry.origin == Origin::Run)
                .and_then(|rest| rest.strip_prefix(&value)?.trim_start().strip_prefix(FROM));
            if let Some(origin) = origin {
                entry.origin = Origin::parse(origin);
            }
        }
        Self::from_entries(entries, names, PresetSource::Run)
    }

    /// Keys that the record of an older run lacks, whose defaults are used instead.
    pub fn absent(&self) -> Vec<&str> {
        let absent = self.origins.iter().filter(|(_, origin)| **origin == Origin::Absent);
        absent.map(|(key, _)| key.as_str()).collect()
    }
}

/// Refuses a record that only a newer version of the program understands.
fn check_format(table: &mut Table) -> Result<(), ConfigError> {
    match table.remove("format") {
        Some(Value::Integer(format)) if format <= FORMAT => Ok(()),
        None => Ok(()),
        Some(found) => Err(ConfigError::NewerRun { found: render(&found), known: FORMAT }),
    }
}

/// What every key is unless the record says otherwise: the program's own presets of the names that the run was made with.
fn defaults(names: &SelectedNames, record: &str) -> Result<Layers, ConfigError> {
    let (presets, mut layers) = (Presets::embedded(), Layers::default());
    layers.add_file(&presets.base()?.text, &Origin::Absent, &PathBase::Recorded)?;
    for (kind, (_, name)) in PresetKind::ALL.into_iter().zip(names.pairs()) {
        // A file of the user's may have the name of a preset.
        let origin = Origin::Preset(kind, name.to_owned());
        if record.contains(&format!("{FROM}{origin}"))
            && let Ok(preset) = presets.read(kind, name)
        {
            layers.add_file(&preset.text, &Origin::Absent, &PathBase::Recorded)?;
        }
    }
    Ok(layers)
}

fn assignment(name: &str, value: &Value) -> String {
    format!("{name} = {}", render(value))
}

/// Takes the table of names out.
fn names(table: &mut Table) -> Result<SelectedNames, ConfigError> {
    let missing = |name: &str| ConfigError::Missing { key: format!("names.{name}"), place: Origin::Run };
    let names = table.remove("names").ok_or_else(|| missing("data"))?;
    let name = |name: &str| {
        let value = names.get(name).and_then(Value::as_str);
        value.map(str::to_owned).ok_or_else(|| missing(name))
    };
    Ok(SelectedNames { data: name("data")?, model: name("model")?, method: name("method")? })
}

/// What stands behind the equals signs, by key. Values are written on one line, so lines suffice.
fn origins(text: &str) -> BTreeMap<&'static str, &str> {
    let mut section = "";
    let mut assigned = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((name, rest)) = line.split_once(" = ")
            && let Some(key) = find_key(&format!("{section}.{name}"))
        {
            assigned.insert(key.name, rest);
        }
    }
    assigned
}
