//! Presets: from the folder that `LIFT_CONFIGS` names, from the `configs` folder near the binary, or from the copies
//! inside the binary.

use super::base;
use super::error::ConfigError;
use super::nearest::nearest;
use super::origin::PresetKind;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Environment variable that names a folder of presets.
pub const LIFT_CONFIGS: &str = "LIFT_CONFIGS";

/// The source of the presets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresetSource {
    /// The folder that `LIFT_CONFIGS` names.
    Environment(PathBuf),
    /// The `configs` folder beside the binary, or above it in a build folder.
    Beside(PathBuf),
    /// The copies inside the binary.
    Embedded,
    /// None: the configuration was read from the folder of a run.
    Run,
}

impl fmt::Display for PresetSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(path) => write!(f, "presets of {} ({LIFT_CONFIGS})", path.display()),
            Self::Beside(path) => write!(f, "presets of {}", path.display()),
            Self::Embedded => f.write_str("presets inside the program"),
            Self::Run => f.write_str("the configuration of a run"),
        }
    }
}

/// A file of presets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PresetFile {
    /// Its text.
    pub(super) text: String,
    /// The folder it lies in, unless it is embedded.
    pub(super) folder: Option<PathBuf>,
}

impl PresetFile {
    /// The description of the preset: the first paragraph of its leading comment.
    pub(super) fn about(&self) -> String {
        let lines = self.text.lines().map_while(|line| line.strip_prefix("# "));
        lines.collect::<Vec<_>>().join(" ")
    }
}

/// The presets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presets {
    source: PresetSource,
}

impl Presets {
    /// Finds the presets of this process.
    pub fn find() -> Result<Self, ConfigError> {
        Self::find_from(std::env::var_os(LIFT_CONFIGS), std::env::current_exe().ok().as_deref())
    }

    /// The copies inside the binary.
    pub const fn embedded() -> Self {
        Self { source: PresetSource::Embedded }
    }

    /// Finds the presets for a value of `LIFT_CONFIGS` and the path of a binary.
    pub fn find_from(named: Option<OsString>, binary: Option<&Path>) -> Result<Self, ConfigError> {
        if let Some(path) = named.filter(|path| !path.is_empty()).map(PathBuf::from) {
            if !is_preset_folder(&path) {
                return Err(ConfigError::NoPresetFolder { path, how: "LIFT_CONFIGS" });
            }
            let path = std::path::absolute(&path).unwrap_or(path);
            return Ok(Self { source: PresetSource::Environment(path) });
        }
        let folder = binary.and_then(Path::parent).and_then(|folder| {
            let ancestors = folder.ancestors().take(MAX_FOLDERS_UP + 1);
            ancestors.map(|ancestor| ancestor.join("configs")).find(|path| is_preset_folder(path))
        });
        Ok(folder.map_or(Self::embedded(), |path| Self { source: PresetSource::Beside(path) }))
    }

    /// The source of these presets.
    pub const fn source(&self) -> &PresetSource {
        &self.source
    }

    /// Names of the presets of a kind, sorted.
    pub fn names(&self, kind: PresetKind) -> Result<Vec<String>, ConfigError> {
        Ok(match self.folder() {
            Some(folder) => names_in(&folder.join(kind.folder()))?.into_keys().collect(),
            None => embedded_names(kind).map(str::to_owned).collect(),
        })
    }

    /// The description of a preset, from its leading comment.
    pub fn about(&self, kind: PresetKind, name: &str) -> Result<String, ConfigError> {
        Ok(self.read(kind, name)?.about())
    }

    /// `base.toml`.
    pub(super) fn base(&self) -> Result<PresetFile, ConfigError> {
        match self.folder() {
            Some(folder) => read_preset(&folder.join("base.toml")),
            None => Ok(PresetFile { text: base::toml(), folder: None }),
        }
    }

    /// The preset of a kind and name.
    pub(super) fn read(&self, kind: PresetKind, name: &str) -> Result<PresetFile, ConfigError> {
        let Some(folder) = self.folder() else {
            let found =
                EMBEDDED.iter().find(|(its_kind, its_name, _)| *its_kind == kind && *its_name == name);
            return match found {
                Some((_, _, text)) => Ok(PresetFile { text: (*text).to_owned(), folder: None }),
                None => Err(unknown(kind, name, embedded_names(kind).map(str::to_owned).collect())),
            };
        };
        let mut files = names_in(&folder.join(kind.folder()))?;
        match files.remove(name) {
            Some(path) => read_preset(&path),
            None => Err(unknown(kind, name, files.into_keys().collect())),
        }
    }

    fn folder(&self) -> Option<&Path> {
        match &self.source {
            PresetSource::Environment(path) | PresetSource::Beside(path) => Some(path),
            PresetSource::Embedded | PresetSource::Run => None,
        }
    }
}

/// From `target/release/deps`, where tests run, the folder of the project is three up.
const MAX_FOLDERS_UP: usize = 3;

fn is_preset_folder(path: &Path) -> bool {
    path.join("base.toml").is_file()
}

/// Files by preset name. Names come from the listing of the folder and never from the user, so that a name cannot
/// point outside the folder.
fn names_in(folder: &Path) -> Result<BTreeMap<String, PathBuf>, ConfigError> {
    let entries = fs::read_dir(folder).map_err(|error| cannot_read(folder, &error))?;
    let mut files = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|error| cannot_read(folder, &error))?.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".toml"));
        if let Some(name) = name.filter(|name| !name.starts_with('.')) {
            files.insert(name.to_owned(), path);
        }
    }
    Ok(files)
}

fn read_preset(path: &Path) -> Result<PresetFile, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| cannot_read(path, &error))?;
    Ok(PresetFile { text, folder: path.parent().map(Path::to_owned) })
}

/// The error for a failed read.
pub(super) fn cannot_read(path: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError::Read { path: path.to_owned(), reason: error.to_string() }
}

fn unknown(kind: PresetKind, name: &str, known: Vec<String>) -> ConfigError {
    let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
    ConfigError::UnknownPreset { kind, name: name.to_owned(), nearest, known }
}

fn embedded_names(kind: PresetKind) -> impl Iterator<Item = &'static str> {
    EMBEDDED.iter().filter(move |(its_kind, ..)| *its_kind == kind).map(|(_, name, _)| *name)
}

/// Kind, name and text of each preset below `configs`, sorted; `build.rs` lists them.
const EMBEDDED: &[(PresetKind, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/presets.rs"));
