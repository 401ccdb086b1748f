//! `lift-trainer list`: what there is to choose from, one line each.

use super::arguments::{Group, List};
use crate::config::{PresetKind, Presets, words_of};
use crate::engine::failure::Failure;
use crate::options::Word;
use crate::run::{Look, listing};
use protocol::command_line::Talk;
use protocol::terminal;
use serde::{Serialize, Serializer};

/// Prints all groups, or the one that is named: a table each, or one JSON object with a list each.
pub(super) fn run(list: &List, talk: Talk) -> Result<(), Failure> {
    let presets = Presets::find().map_err(Failure::input)?;
    let mut groups = Vec::new();
    for group in GROUPS.into_iter().filter(|(group, ..)| list.group.is_none_or(|named| named == *group)) {
        let (_, name, choice) = group;
        groups.push(Listed { name, flag: choice.flag(), entries: choice.entries(&presets)? });
    }
    if talk.json {
        let text = serde_json::to_string_pretty(&Lists(&groups)).map_err(Failure::run)?;
        terminal::print_json(&format!("{text}\n")).map_err(Failure::run)?;
    } else {
        let tables: Vec<_> = groups.iter().map(|group| group.table(Look::of_stdout())).collect();
        terminal::print_as_is(tables.join("\n")).map_err(Failure::run)?;
    }
    Ok(())
}

/// Each group with its name, and where its entries are declared.
const GROUPS: [(Group, &str, Choice); 7] = [
    (Group::Data, "data", Choice::Preset(PresetKind::Data)),
    (Group::Models, "models", Choice::Preset(PresetKind::Model)),
    (Group::Methods, "methods", Choice::Preset(PresetKind::Method)),
    (Group::Tuners, "tuners", Choice::Words("tuner.kinds")),
    (Group::Losses, "losses", Choice::Words("loss.kind")),
    (Group::Heads, "heads", Choice::Words("head.kind")),
    (Group::Inits, "inits", Choice::Words("head.init")),
];

/// What a name is a choice of.
#[derive(Clone, Copy)]
enum Choice {
    /// A preset.
    Preset(PresetKind),
    /// The words of a key.
    Words(&'static str),
}

impl Choice {
    /// How one of them is chosen on the command line.
    fn flag(self) -> String {
        match self {
            Self::Preset(kind) => format!("{} NAME", kind.flag()),
            Self::Words(key) => format!("--set {key}=NAME"),
        }
    }

    fn entries(self, presets: &Presets) -> Result<Vec<Entry>, Failure> {
        match self {
            Self::Preset(kind) => {
                let about = |name: String| {
                    presets.about(kind, &name).map(|about| Entry { name, about }).map_err(Failure::input)
                };
                presets.names(kind).map_err(Failure::input)?.into_iter().map(about).collect()
            }
            Self::Words(key) => Ok(words_of(key).iter().map(Entry::of_word).collect()),
        }
    }
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    about: String,
}

impl Entry {
    fn of_word(word: &Word) -> Self {
        let lines: Vec<_> = word.about.iter().map(|line| line.trim()).collect();
        Self { name: word.word.to_owned(), about: lines.join(" ") }
    }
}

struct Listed {
    name: &'static str,
    flag: String,
    entries: Vec<Entry>,
}

impl Listed {
    fn table(&self, look: Look) -> String {
        let row = |entry: &Entry| [entry.name.clone(), first_sentence(&entry.about).to_owned()];
        listing([self.name, &self.flag], self.entries.iter().map(row), look)
    }
}

/// One object with a list for each group, in the order of the groups.
struct Lists<'a>(&'a [Listed]);

impl Serialize for Lists<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|group| (group.name, &group.entries)))
    }
}

/// What fits on a line; the JSON has all of it.
fn first_sentence(text: &str) -> &str {
    text.find(". ").map_or(text, |end| &text[..=end])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Columns of a common terminal.
    const WIDTH: usize = 100;

    #[test]
    fn every_group_has_entries_and_presets_fit_on_a_line() {
        for (_, name, choice) in GROUPS {
            let group =
                Listed { name, flag: choice.flag(), entries: choice.entries(&Presets::embedded()).unwrap() };
            assert!(!group.entries.is_empty(), "{name}");
            assert!(group.entries.iter().all(|entry| !entry.about.is_empty()), "{name}");
            let table = group.table(Look::PLAIN);
            assert_eq!(table.lines().count(), group.entries.len() + 1, "{table}");
            if matches!(choice, Choice::Preset(_)) {
                let long = table.lines().find(|line| line.chars().count() > WIDTH);
                assert_eq!(long, None, "shorten the first sentence of the preset");
            }
        }
    }

    #[test]
    fn a_line_is_the_first_sentence() {
        assert_eq!(first_sentence("One. Two."), "One.");
        assert_eq!(first_sentence("CLIP ViT-B/16, 224 pixels."), "CLIP ViT-B/16, 224 pixels.");
        assert_eq!(first_sentence("A ratio of 0.5 and more"), "A ratio of 0.5 and more");
        assert_eq!(first_sentence(""), "");
    }
}
