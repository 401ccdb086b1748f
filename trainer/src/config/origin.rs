//! Origins of values.

use std::fmt;

/// The origin of a value. A later variant overrides an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `configs/base.toml`.
    Base,
    /// A preset, by kind and name.
    Preset(PresetKind, String),
    /// A file that the user named, by its path.
    File(String),
    /// A `--set` flag, by what follows it.
    Set(String),
    /// The record of a run, if it states no other origin.
    Run,
    /// The default of a key that is absent in the record of an older run.
    Absent,
}

/// Folders of presets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresetKind {
    /// `configs/data/`.
    Data,
    /// `configs/model/`.
    Model,
    /// `configs/method/`.
    Method,
}

impl PresetKind {
    /// All kinds, in the order of their layers.
    pub const ALL: [Self; 3] = [Self::Data, Self::Model, Self::Method];

    /// Name of the folder.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Model => "model",
            Self::Method => "method",
        }
    }

    /// The flag that chooses one of them.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Data => "-d",
            Self::Model => "-m",
            Self::Method => "--method",
        }
    }

    /// The subject of the presets, in words.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Data => "data set",
            Self::Model => "model",
            Self::Method => "method",
        }
    }
}

const BASE: &str = "configs/base.toml";
const FILE: &str = "file ";
const SET: &str = "--set ";
const RUN: &str = "the run's config.toml";
const ABSENT: &str = "the default, absent in the run's config.toml";

impl Origin {
    /// Whether the user set the value for this run, on the command line or in a file.
    pub const fn is_of_user(&self) -> bool {
        matches!(self, Self::File(_) | Self::Set(_))
    }

    /// A file of the user.
    pub(super) fn file(path: &str) -> Self {
        Self::File(one_line(path))
    }

    /// A `--set` flag.
    pub(super) fn set(argument: &str) -> Self {
        Self::Set(one_line(argument))
    }

    /// Parses the output of [`fmt::Display`].
    pub(super) fn parse(text: &str) -> Self {
        match text {
            BASE => return Self::Base,
            ABSENT => return Self::Absent,
            _ => {}
        }
        if let Some(path) = text.strip_prefix(FILE) {
            return Self::File(path.to_owned());
        }
        if let Some(argument) = text.strip_prefix(SET) {
            return Self::Set(argument.to_owned());
        }
        let preset = text.strip_prefix("configs/").and_then(|rest| rest.strip_suffix(".toml"));
        preset
            .and_then(|rest| rest.split_once('/'))
            .and_then(|(folder, name)| {
                let kind = PresetKind::ALL.into_iter().find(|kind| kind.folder() == folder)?;
                Some(Self::Preset(kind, name.to_owned()))
            })
            .unwrap_or(Self::Run)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base => f.write_str(BASE),
            Self::Preset(kind, name) => write!(f, "configs/{}/{name}.toml", kind.folder()),
            Self::File(path) => write!(f, "{FILE}{path}"),
            Self::Set(argument) => write!(f, "{SET}{argument}"),
            Self::Run => f.write_str(RUN),
            Self::Absent => f.write_str(ABSENT),
        }
    }
}

/// Origins are parts of messages, which must stay on one line.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        if character.is_control() { line.extend(character.escape_default()) } else { line.push(character) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let origins = [
            Origin::Base,
            Origin::Preset(PresetKind::Data, "cifar100_ir100".to_owned()),
            Origin::Preset(PresetKind::Model, "clip_vit_l14@336px".to_owned()),
            Origin::file("/data/mine.toml"),
            Origin::set("head.prompt=one\ntwo # from x"),
            Origin::Run,
            Origin::Absent,
        ];
        for origin in origins {
            assert_eq!(Origin::parse(&origin.to_string()), origin);
        }
        assert_eq!(Origin::parse("configs/other/x.toml"), Origin::Run);
    }
}
