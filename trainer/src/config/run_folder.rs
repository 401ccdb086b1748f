//! `config.toml` of a run folder: the whole configuration, with the origin of each value as a comment.

use super::error::ConfigError;
use super::kind::render;
use super::layers::{Layers, full_name, parse};
use super::origin::Origin;
use super::paths::Start;
use super::presets::PresetSource;
use super::resolved::{Names, Resolved};
use super::{SECTIONS, find_key};
use std::collections::BTreeMap;
use std::fmt::Write;
use toml::{Table, Value};

/// Column of the origins, where the value is not longer.
const COLUMN: usize = 48;
const FROM: &str = "# from ";

impl Resolved {
    /// The whole configuration as TOML, each value with the comment `# from ORIGIN`.
    pub fn to_toml(&self) -> String {
        let mut text = format!("# Configuration of a run, from the {}.\n\n[names]\n", self.presets);
        for (name, value) in self.names.pairs() {
            let _ = writeln!(text, "{}", assignment(name, &Value::String(value.to_owned())));
        }
        let values: BTreeMap<_, _> = self.config.values().into_iter().collect();
        for section in SECTIONS {
            let _ = writeln!(text, "\n[{}]", section.name);
            for key in section.keys {
                let full = full_name(section, key);
                if let (Some(value), Some(origin)) = (values.get(&full), self.origins.get(&full)) {
                    let assignment = assignment(key.name, value);
                    let _ = writeln!(text, "{assignment:<COLUMN$} {FROM}{origin}");
                }
            }
        }
        text
    }

    /// Reads what [`Resolved::to_toml`] wrote. A value whose comment is gone has the
    /// origin [`Origin::Run`].
    pub fn from_run_folder(text: &str) -> Result<Self, ConfigError> {
        let mut table = parse(text, &Origin::Run)?;
        let names = names(&mut table)?;
        let mut layers = Layers::default();
        layers.add_table(table, &Origin::Run, &Start::Recorded)?;
        if let Some(key) = layers.first_missing() {
            return Err(ConfigError::Missing { key, place: Origin::Run });
        }
        let mut entries = layers.into_entries();
        let recorded = origins(text);
        for (full, entry) in &mut entries {
            let Some((_, key)) = find_key(full) else { continue };
            let assignment = assignment(key.name, &entry.value);
            let origin = recorded
                .get(full)
                .and_then(|line| line.strip_prefix(&assignment)?.trim_start().strip_prefix(FROM));
            if let Some(origin) = origin {
                entry.origin = Origin::parse(origin);
            }
        }
        Self::from_entries(entries, names, PresetSource::Run)
    }
}

fn assignment(name: &str, value: &Value) -> String {
    format!("{name} = {}", render(value))
}

/// Takes the table of names out.
fn names(table: &mut Table) -> Result<Names, ConfigError> {
    let missing = |name: &str| ConfigError::Missing { key: format!("names.{name}"), place: Origin::Run };
    let names = table.remove("names").ok_or_else(|| missing("data"))?;
    let name = |name: &str| {
        let value = names.get(name).and_then(Value::as_str);
        value.map(str::to_owned).ok_or_else(|| missing(name))
    };
    Ok(Names { data: name("data")?, model: name("model")?, method: name("method")? })
}

/// Lines of assignments by `section.key`. Values are written on one line, so lines suffice.
fn origins(text: &str) -> BTreeMap<String, &str> {
    let mut section = "";
    let mut lines = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.split_once(" = ") {
            lines.insert(format!("{section}.{key}"), line);
        }
    }
    lines
}
