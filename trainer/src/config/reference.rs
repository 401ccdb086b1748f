//! Generates `docs/configuration.md` from the declarations and the embedded presets.

use super::origin::PresetKind;
use super::presets::Presets;
use super::tables::{OptionTable, tables, users};
use crate::options::{Needs, OnResume, OptionKey, render, sentences, settings};
use std::fmt::Write;

const HEAD: &str = include_str!("reference_head.md");

/// The page.
pub(super) fn markdown() -> String {
    let mut page = HEAD.to_owned();
    presets(&mut page);
    for table in tables() {
        write_table(&mut page, table);
    }
    page
}

fn presets(page: &mut String) {
    let embedded = Presets::embedded();
    page.push_str("\n## Presets\n");
    for kind in PresetKind::ALL {
        let _ = write!(page, "\n| `{}` | |\n|---|---|\n", kind.flag());
        for name in embedded.names(kind).unwrap_or_default() {
            let _ = writeln!(page, "| `{name}` | {} |", embedded.about(kind, &name).unwrap_or_default());
        }
    }
}

fn write_table(page: &mut String, table: &OptionTable) {
    let _ = write!(page, "\n## `[{}]`\n\n{}\n", table.name, cell(&sentences(table.about)));
    page.push_str("\n| Key | Default | Takes | Meaning |\n|---|---|---|---|\n");
    for key in &table.keys {
        let default = render(&(key.default)());
        let (takes, meaning) = (cell(&takes(key)), cell(&meaning(key)));
        let _ = writeln!(page, "| `{}` | `{default}` | {takes} | {meaning} |", key.name);
    }
    for key in &table.keys {
        write_words(page, key);
    }
}

fn write_words(page: &mut String, key: &OptionKey) {
    let words = (key.words)();
    if words.is_empty() {
        return;
    }
    let _ = write!(page, "\n`{}`:\n\n", key.name);
    for word in words {
        let _ = writeln!(page, "- `{}`: {}", word.word, sentences(word.about));
    }
}

/// The values that a key accepts.
fn takes(key: &OptionKey) -> String {
    match key.limit {
        _ if !(key.words)().is_empty() => "see below".to_owned(),
        Some(limit) => format!("{}{}", (key.noun)(), (limit.words)()),
        None => (key.expected)(),
    }
}

/// The description of a key, with its conditions.
fn meaning(key: &OptionKey) -> String {
    let mut text = sentences(key.about);
    let needed = key.needs.iter().filter(|needs| needs.is_documented).map(Needs::sentence);
    let conditions: Vec<_> = needed.chain(of_methods(key)).collect();
    if !conditions.is_empty() {
        let _ = write!(text, " Takes effect {}.", conditions.join(", and "));
    }
    if let Some(folder) = key.starts_at {
        let _ = write!(text, " In a file, a relative path is relative to `{folder}`.");
    }
    if let Some(former) = key.formerly {
        let _ = write!(text, " `{former}` is also accepted.");
    }
    if key.on_resume == OnResume::Free {
        text.push_str(" May change on resume.");
    }
    text
}

/// The choices of methods with which an option of methods takes effect.
fn of_methods(key: &OptionKey) -> Option<String> {
    let users = users(key).iter().map(|users| format!("with {}", settings(users.key, &users.words)));
    let users: Vec<_> = users.collect();
    (!users.is_empty()).then(|| users.join(" or "))
}

/// Escapes bars, which would end a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
