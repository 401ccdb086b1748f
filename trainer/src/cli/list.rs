//! `lift-trainer list`: the available choices, one per line.

use super::arguments::{ListArguments, ListGroup};
use crate::config::{PresetKind, Presets, words_of};
use crate::engine::failure::Failure;
use crate::options::OptionWord;
use crate::run::{TableLook, listing};
use protocol::command_line::OutputArguments;
use protocol::terminal;
use serde::{Serialize, Serializer};

/// Prints all groups, or the named one: one table per group, or one JSON object with a list per group.
pub(super) fn run(list: &ListArguments, output_arguments: OutputArguments) -> Result<(), Failure> {
    let presets = Presets::find().map_err(Failure::input)?;
    let mut groups = Vec::new();
    for group in GROUPS.into_iter().filter(|(group, ..)| list.group.is_none_or(|named| named == *group)) {
        let (_, name, choice) = group;
        groups.push(ListedGroup { name, flag: choice.flag(), entries: choice.entries(&presets)? });
    }
    if output_arguments.json {
        let text = serde_json::to_string_pretty(&Lists(&groups)).map_err(Failure::run)?;
        terminal::print_json(&format!("{text}\n")).map_err(Failure::run)?;
    } else {
        let tables: Vec<_> = groups.iter().map(|group| group.table(TableLook::of_stdout())).collect();
        terminal::print_as_is(tables.join("\n")).map_err(Failure::run)?;
    }
    Ok(())
}

/// Each group with its name and the source of its entries.
const GROUPS: [(ListGroup, &str, ChoiceOf); 7] = [
    (ListGroup::Data, "data", ChoiceOf::Preset(PresetKind::Data)),
    (ListGroup::Models, "models", ChoiceOf::Preset(PresetKind::Model)),
    (ListGroup::Methods, "methods", ChoiceOf::Preset(PresetKind::Method)),
    (ListGroup::Tuners, "tuners", ChoiceOf::Words("tuner.kinds")),
    (ListGroup::Losses, "losses", ChoiceOf::Words("loss.kind")),
    (ListGroup::Heads, "heads", ChoiceOf::Words("head.kind")),
    (ListGroup::Inits, "inits", ChoiceOf::Words("head.init")),
];

/// Source of the entries of a group.
#[derive(Clone, Copy)]
enum ChoiceOf {
    /// A preset.
    Preset(PresetKind),
    /// The values of an option.
    Words(&'static str),
}

impl ChoiceOf {
    /// The flag that selects an entry on the command line.
    fn flag(self) -> String {
        match self {
            Self::Preset(kind) => format!("{} NAME", kind.flag()),
            Self::Words(key) => format!("--set {key}=NAME"),
        }
    }

    fn entries(self, presets: &Presets) -> Result<Vec<ListEntry>, Failure> {
        match self {
            Self::Preset(kind) => {
                let about = |name: String| {
                    presets.about(kind, &name).map(|about| ListEntry { name, about }).map_err(Failure::input)
                };
                presets.names(kind).map_err(Failure::input)?.into_iter().map(about).collect()
            }
            Self::Words(key) => Ok(words_of(key).iter().map(ListEntry::of_word).collect()),
        }
    }
}

#[derive(Debug, Serialize)]
struct ListEntry {
    name: String,
    about: String,
}

impl ListEntry {
    fn of_word(word: &OptionWord) -> Self {
        let lines: Vec<_> = word.about.iter().map(|line| line.trim()).collect();
        Self { name: word.word.to_owned(), about: lines.join(" ") }
    }
}

struct ListedGroup {
    name: &'static str,
    flag: String,
    entries: Vec<ListEntry>,
}

impl ListedGroup {
    fn table(&self, look: TableLook) -> String {
        let row = |entry: &ListEntry| [entry.name.clone(), first_sentence(&entry.about).to_owned()];
        listing([self.name, &self.flag], self.entries.iter().map(row), look)
    }
}

/// One object with a list for each group, in the order of the groups.
struct Lists<'a>(&'a [ListedGroup]);

impl Serialize for Lists<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|group| (group.name, &group.entries)))
    }
}

/// The first sentence, for tables; the JSON output has the full text.
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
            let group = ListedGroup {
                name,
                flag: choice.flag(),
                entries: choice.entries(&Presets::embedded()).unwrap(),
            };
            assert!(!group.entries.is_empty(), "{name}");
            assert!(group.entries.iter().all(|entry| !entry.about.is_empty()), "{name}");
            let table = group.table(TableLook::PLAIN);
            assert_eq!(table.lines().count(), group.entries.len() + 1, "{table}");
            if matches!(choice, ChoiceOf::Preset(_)) {
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
