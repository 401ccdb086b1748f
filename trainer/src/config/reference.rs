//! `docs/configuration.md`, from the doc comments of the sections and the embedded presets.

use super::SECTIONS;
use super::kind::render;
use super::layers::parse;
use super::origin::{Origin, PresetKind};
use super::presets::Presets;
use super::section::{Key, Section};
use std::fmt::Write;
use toml::Table;

const HEAD: &str = include_str!("reference_head.md");

/// The page.
pub(super) fn markdown() -> String {
    let mut page = HEAD.to_owned();
    presets(&mut page);
    let presets = Presets::embedded();
    let base = presets.base().and_then(|base| parse(&base.text, &Origin::Base)).unwrap_or_default();
    for section in SECTIONS {
        write_section(&mut page, section, &base);
    }
    page
}

fn presets(page: &mut String) {
    let embedded = Presets::embedded();
    page.push_str("\n## Presets\n");
    for kind in PresetKind::ALL {
        let flag = match kind {
            PresetKind::Data => "-d",
            PresetKind::Model => "-m",
            PresetKind::Method => "--method",
        };
        let _ = write!(page, "\n| `{flag}` | |\n|---|---|\n");
        for name in embedded.names(kind).unwrap_or_default() {
            let text = embedded.read(kind, &name).map(|file| file.text).unwrap_or_default();
            let _ = writeln!(page, "| `{name}` | {} |", head_comment(&text));
        }
    }
}

/// The comment that a preset begins with.
fn head_comment(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("# "));
    lines.collect::<Vec<_>>().join(" ")
}

fn write_section(page: &mut String, section: &Section, base: &Table) {
    let _ = write!(page, "\n## `[{}]`\n\n{}\n", section.name, sentence(section.about));
    page.push_str("\n| Key | Default | Takes | Meaning |\n|---|---|---|---|\n");
    for key in section.keys {
        let default = base.get(section.name).and_then(|values| values.get(key.name));
        let default = default.map_or_else(|| "none".to_owned(), |value| format!("`{}`", render(value)));
        let takes = match (key.words.is_empty(), key.is_path) {
            (true, _) => (key.expected)(),
            (false, false) => "a word, see below".to_owned(),
            (false, true) => "a word, see below, or a path".to_owned(),
        };
        let full = format!("{}.{}", section.name, key.name);
        let _ = writeln!(page, "| `{full}` | {default} | {takes} | {} |", sentence(key.about));
    }
    for key in section.keys.iter().filter(|key| !key.words.is_empty()) {
        write_words(page, section, key);
    }
}

fn write_words(page: &mut String, section: &Section, key: &Key) {
    let _ = write!(page, "\n`{}.{}`:\n\n", section.name, key.name);
    for word in key.words {
        let _ = writeln!(page, "- `{}`: {}", word.word, sentence(word.about));
    }
}

/// Lines of a doc comment as one; a bar would end a cell.
fn sentence(lines: &[&str]) -> String {
    let trimmed = lines.iter().map(|line| line.trim());
    trimmed.collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
