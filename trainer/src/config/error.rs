//! Why there is no configuration: one sentence each, with the thing, what was expected, what was found, and
//! what to do.

use super::origin::{Origin, PresetKind};
use crate::model::tuners::Excluded;
use std::path::PathBuf;

/// Why a selection gives no configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The folder of presets is not one.
    #[error(
        "`{path}` ({how}) is no folder of presets: expected base.toml in it; correct the path, or leave \
         LIFT_CONFIGS unset to use the presets of the program"
    )]
    NoPresetFolder {
        /// The folder.
        path: PathBuf,
        /// The origin of the path.
        how: &'static str,
    },
    /// A file or folder cannot be read.
    #[error("cannot read `{path}`: {reason}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        reason: String,
    },
    /// A path is not UTF-8, so TOML cannot hold it.
    #[error("the path `{path}` is not UTF-8, so it cannot stand in a configuration; rename or move it")]
    NotUtf8 {
        /// The path, as well as it can be shown.
        path: PathBuf,
    },
    /// No preset has the name.
    #[error(
        "unknown {} `{name}`: known are {}, or the path of a .toml file of your own{}",
        kind.noun(), known.join(", "), did_you_mean(nearest.as_deref())
    )]
    UnknownPreset {
        /// Which kind of preset.
        kind: PresetKind,
        /// The name asked for.
        name: String,
        /// A known name that is close.
        nearest: Option<String>,
        /// All known names.
        known: Vec<String>,
    },
    /// A file is not TOML.
    #[error("{place} is not TOML{}: {reason}", at_line(*line))]
    Syntax {
        /// The file.
        place: Origin,
        /// Line, counted from 1.
        line: Option<usize>,
        /// The message of the parser.
        reason: String,
    },
    /// `--set` without an equals sign.
    #[error("`--set {argument}` has no value: expected section.key=value")]
    SetWithoutValue {
        /// What follows the flag.
        argument: String,
    },
    /// No such key.
    #[error("unknown key `{key}`{}{hint}", in_place(place))]
    UnknownKey {
        /// The key as written.
        key: String,
        /// Where it is written.
        place: Origin,
        /// What to write instead, with its own punctuation.
        hint: String,
    },
    /// A file gives a key by two names.
    #[error("`{former}` is another name of `{key}`, and {place} gives both; keep `{key}`")]
    BothNames {
        /// The key.
        key: &'static str,
        /// Its former name.
        former: &'static str,
        /// The file.
        place: Origin,
    },
    /// A value of another type than the key takes.
    #[error("`{key}` expects {expected}; found {found} (from {origin}){}", did_you_mean(*nearest))]
    WrongType {
        /// The key.
        key: String,
        /// The expected type.
        expected: String,
        /// The value found.
        found: String,
        /// The origin of the value.
        origin: Origin,
        /// A word that is close.
        nearest: Option<&'static str>,
    },
    /// A value of the right type outside the range.
    #[error("`{key}` must be {expected}; found {found} (from {origin})")]
    OutOfRange {
        /// The key.
        key: String,
        /// The range.
        expected: String,
        /// The value found.
        found: String,
        /// The origin of the value.
        origin: Origin,
    },
    /// No layer gives a key.
    #[error("`{key}` is missing in {place}; expected every key there, compare with docs/configuration.md")]
    Missing {
        /// The key.
        key: String,
        /// The file that should have it.
        place: Origin,
    },
    /// The record of a run in a format of a later version of the program.
    #[error(
        "the run's config.toml has format {found}, and this program knows up to {known}: a newer version wrote it; \
         use that version"
    )]
    NewerRun {
        /// Its format.
        found: String,
        /// The newest one known here.
        known: i64,
    },
    /// A key that the user has to give.
    #[error("`{key}` is not set: {why}; add `--set {key}={example}`")]
    Required {
        /// The key.
        key: &'static str,
        /// What it is needed for.
        why: String,
        /// What a value looks like.
        example: &'static str,
    },
    /// The user chose a value that changes nothing.
    #[error("`{key}` (from {origin}) has no effect with {setting}; leave it out or change `{cause}`")]
    NoEffect {
        /// The key.
        key: String,
        /// The origin of the value.
        origin: Origin,
        /// The setting that makes it idle, with its origin.
        setting: String,
        /// The key of that setting.
        cause: String,
    },
    /// Two tuners exclude each other.
    #[error("{setting}: {error}")]
    Excluded {
        /// The setting, with its origin.
        setting: String,
        /// The two tuners and the reason.
        error: Excluded,
    },
    /// Two settings exclude each other.
    #[error("{one} cannot go with {other}: {why}; {remedy}")]
    Conflict {
        /// A setting, with its origin.
        one: String,
        /// The second one.
        other: String,
        /// The reason.
        why: &'static str,
        /// The remedy.
        remedy: &'static str,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"))
}

fn at_line(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(" at line {line}"))
}

/// A flag is in front of the user already; a file is not.
fn in_place(place: &Origin) -> String {
    match place {
        Origin::Set(_) => String::new(),
        place => format!(" in {place}"),
    }
}
