//! Errors of the configuration. Each is one sentence with the thing, the expected and the found value, and the
//! remedy.

use super::origin::{Origin, PresetKind};
use crate::model::tuners::Excluded;
use std::path::PathBuf;

/// A selection that does not resolve to a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The folder of presets is not one.
    #[error(
        "`{path}` ({how}) is not a folder of presets: expected base.toml in it\nhint: correct the path, or leave \
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
    /// A path is not UTF-8, so TOML cannot represent it.
    #[error(
        "the path `{path}` is not UTF-8, and a configuration can contain only UTF-8\nhint: rename or move it"
    )]
    NotUtf8 {
        /// The path, with replacement characters.
        path: PathBuf,
    },
    /// No preset has the name.
    #[error(
        "unknown {} `{name}`: known are {}, or the path of a .toml file of your own{}",
        kind.noun(), known.join(", "), did_you_mean(nearest.as_deref())
    )]
    UnknownPreset {
        /// The kind of preset.
        kind: PresetKind,
        /// The requested name.
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
    /// A `--set` flag without an equals sign.
    #[error("`--set {argument}` has no value: expected section.key=value")]
    SetWithoutValue {
        /// The argument of the flag.
        argument: String,
    },
    /// An unknown key.
    #[error("unknown key `{key}`{}{hint}", in_place(place))]
    UnknownKey {
        /// The key as written.
        key: String,
        /// The place where it is written.
        place: Origin,
        /// The suggestion, with its punctuation.
        hint: String,
    },
    /// A file sets a key under two names.
    #[error("`{former}` is another name of `{key}`, and {place} gives both\nhint: keep `{key}`")]
    BothNames {
        /// The key.
        key: &'static str,
        /// Its former name.
        former: &'static str,
        /// The file.
        place: Origin,
    },
    /// A value of the wrong type.
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
        /// A known word that is close.
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
    /// A key that no layer sets.
    #[error(
        "`{key}` is missing in {place}; expected every key there\nhint: compare it with docs/configuration.md"
    )]
    Missing {
        /// The key.
        key: String,
        /// The file that should have it.
        place: Origin,
    },
    /// The record of a run in the format of a newer version of the program.
    #[error(
        "the run's config.toml has format {found}, and this program knows up to {known}: a newer version wrote it\nhint: \
         use that version"
    )]
    NewerRun {
        /// Its format.
        found: String,
        /// The newest one known here.
        known: i64,
    },
    /// A key that the user must set.
    #[error("`{key}` is not set: {why}\nhint: add `--set {key}={example}`")]
    Required {
        /// The key.
        key: &'static str,
        /// The reason why it is needed.
        why: String,
        /// An example value.
        example: &'static str,
    },
    /// The user set a key that has no effect.
    #[error("`{key}` (from {origin}) has no effect with {setting}\nhint: leave it out or change `{cause}`")]
    NoEffect {
        /// The key.
        key: String,
        /// The origin of the value.
        origin: Origin,
        /// The setting that disables it, with its origin.
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
    #[error("{one} cannot be combined with {other}: {why}\nhint: {remedy}")]
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
    nearest.map_or_else(String::new, |nearest| format!("\nhint: did you mean `{nearest}`?"))
}

fn at_line(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(" at line {line}"))
}

/// The user has just typed a flag, so only a file is named.
fn in_place(place: &Origin) -> String {
    match place {
        Origin::Set(_) => String::new(),
        place => format!(" in {place}"),
    }
}
