//! Generates `configs/base.toml` from the declarations: every key with its default and a short description.

use super::tables::{OptionTable, tables, users};
use crate::options::{Condition, OptionKey, render};
use std::fmt::Write;

const HEAD: &str = "\
# Every key with its default. The defaults are LIFT's published hyper-parameters where LIFT has the option.
# The presets of data set, model and method override them, then `--set section.key=value`.
# docs/configuration.md explains each key.
# This file is generated: LIFT_UPDATE_DOCS=1 cargo test --release -p trainer up_to_date
";
/// Column of the comments, unless the value is longer.
const COLUMN: usize = 26;

/// The text of the file.
pub(super) fn toml() -> String {
    let mut text = HEAD.to_owned();
    for table in tables() {
        let _ = writeln!(text, "\n[{}]", table.name);
        for key in &table.keys {
            let assignment = format!("{} = {}", key.short, render(&(key.default)()));
            let _ = writeln!(text, "{assignment:<COLUMN$} # {}", comment(table, key));
        }
    }
    text
}

/// The words that the key accepts, or its summary; prefixed by the words of the same table that it requires.
fn comment(table: &OptionTable, key: &OptionKey) -> String {
    let words: Vec<_> = (key.words)().iter().map(|word| word.word).collect();
    let what = if words.is_empty() { in_small(&key.summary()) } else { words.join(" | ") };
    match condition(table, key) {
        Some(words) => format!("{}: {what}", words.join(", ")),
        None => what,
    }
}

fn condition(table: &OptionTable, key: &OptionKey) -> Option<Vec<&'static str>> {
    let is_here = |cause: &str| cause.split_once('.').is_some_and(|(section, _)| section == table.name);
    let needed = key.needs.iter().find_map(|needs| match needs.test {
        Condition::OneOf(words) if is_here(needs.cause) => Some(words.to_vec()),
        _ => None,
    });
    needed.or_else(|| match users(key) {
        [users] if is_here(users.key) => Some(users.words.clone()),
        _ => None,
    })
}

/// A sentence with its first letter in lower case; a name is unchanged.
fn in_small(sentence: &str) -> String {
    let mut characters = sentence.chars();
    match (characters.next(), characters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => sentence.to_owned(),
    }
}
