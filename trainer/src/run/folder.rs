//! The run folder: choosing, creating and locking it. Two runs never share one.
//!
//! A folder that contains a run is never overwritten. It contains a run if one of the files in [`MARKS`] exists.
//! `logs/` alone does not count, because a job script may have to create it before the job starts.

use super::{Claim, RunFolderError};
use protocol::{layout, sync_folder, write_atomically};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files and folders, each of which marks the folder of a run.
pub const MARKS: [&str; 6] = [
    layout::CONFIG,
    layout::METRICS,
    layout::STATUS,
    layout::CHECKPOINTS,
    layout::FINAL_WEIGHTS,
    layout::RESULT,
];

/// Parent folder of runs without `--output`.
pub const DEFAULT_PARENT: &str = "runs";

/// How many numbered names are tried for a run without `--output`.
const MOST_TRIES: u32 = 9_999;
/// Largest number of differing settings in an error message.
const MOST_DIFFERENCES: usize = 3;
/// Length from which a value is truncated in an error message.
const LONGEST_VALUE: usize = 40;

/// Destination of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunDestination {
    /// The folder given with `--output`.
    Named(PathBuf),
    /// `<parent>/<data>-<model>-<method>-seed<seed>`, with `-2`, `-3`, ... if that exists.
    Default {
        /// Usually [`DEFAULT_PARENT`].
        parent: PathBuf,
        /// Name of the data preset.
        data: String,
        /// Name of the model preset.
        model: String,
        /// Name of the method preset.
        method: String,
        /// The seed.
        seed: u64,
    },
}

/// How a run starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunStart {
    /// From scratch, in a folder without a run.
    Fresh,
    /// From scratch, in place of a run that was stopped before its first checkpoint.
    Again,
}

/// A run folder that only this process writes, for the lifetime of the value.
#[derive(Debug)]
pub struct RunFolder {
    claim: Arc<Claim>,
    /// Whether this value created the folder, so that [`RunFolder::abandon`] may remove it.
    created: bool,
}

impl RunFolder {
    /// Creates and locks the folder for a run with the resolved configuration `config_toml`, and writes the
    /// configuration there.
    ///
    /// A named folder that contains a run is refused; without a name, the next free name is used.
    pub fn create(
        place: &RunDestination,
        config_toml: &str,
        start: RunStart,
    ) -> Result<Self, RunFolderError> {
        let folder = match place {
            _ if start == RunStart::Again => {
                Self::clear(&place.latest().unwrap_or_else(|| place.first_choice()))?
            }
            RunDestination::Named(path) => Self::occupy(path, config_toml)?,
            RunDestination::Default { .. } => Self::occupy_next(&place.first_choice(), config_toml)?,
        };
        folder.prepare(config_toml)?;
        Ok(folder)
    }

    fn prepare(&self, config_toml: &str) -> Result<(), RunFolderError> {
        self.check()?;
        let logs = self.logs();
        fs::create_dir_all(&logs)
            .map_err(|error| RunFolderError::io("create", "the log folder", &logs, error))?;
        let config = self.config();
        write_atomically(&config, config_toml.as_bytes())
            .map_err(|error| RunFolderError::io("write", "the configuration", &config, error))
    }

    /// Opens and locks the folder of a run that resumes: `run` itself, or, if `place` names another, a new folder that
    /// begins with the metrics of that run, if they exist.
    pub fn resume(
        place: &RunDestination,
        run: &Path,
        config_toml: &str,
        start: RunStart,
    ) -> Result<Self, RunFolderError> {
        match place {
            _ if place.is_other_than(run) => {
                let folder = Self::create(place, config_toml, start)?;
                folder.copy_metrics(&run.join(layout::METRICS))?;
                Ok(folder)
            }
            _ => {
                let folder = Self::claim_folder(run, false)?;
                folder.forget_results()?;
                folder.prepare(config_toml)?;
                Ok(folder)
            }
        }
    }

    /// A resumed run is not finished, and must not look finished if it is interrupted.
    fn forget_results(&self) -> Result<(), RunFolderError> {
        for path in [self.result(), self.final_weights(), self.path().join(layout::EVALUATION)] {
            remove(&path)?;
        }
        let path = self.path();
        sync_folder(path).map_err(|error| RunFolderError::io("sync", "the run folder", path, error))
    }

    /// If the metrics of the run are missing, the new file is empty; the code that opens it reports this.
    fn copy_metrics(&self, from: &Path) -> Result<(), RunFolderError> {
        let lines = match fs::read(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(|error| RunFolderError::io("read", "the metrics", from, error))?,
        };
        let path = self.metrics();
        write_atomically(&path, &lines)
            .map_err(|error| RunFolderError::io("write", "the metrics", &path, error))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.claim.path()
    }

    /// The claim, for threads that write on their own.
    pub const fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }

    /// Checks that the folder still belongs to this run; see [`Claim::check`].
    pub fn check(&self) -> Result<(), RunFolderError> {
        self.claim.check()
    }

    /// `config.toml`
    pub fn config(&self) -> PathBuf {
        self.path().join(layout::CONFIG)
    }

    /// `metrics.jsonl`
    pub fn metrics(&self) -> PathBuf {
        self.path().join(layout::METRICS)
    }

    /// `checkpoints/`
    pub fn checkpoints(&self) -> PathBuf {
        self.path().join(layout::CHECKPOINTS)
    }

    /// `final.safetensors`
    pub fn final_weights(&self) -> PathBuf {
        self.path().join(layout::FINAL_WEIGHTS)
    }

    /// `result.json`
    pub fn result(&self) -> PathBuf {
        self.path().join(layout::RESULT)
    }

    /// `logs/`
    pub fn logs(&self) -> PathBuf {
        self.path().join(layout::LOGS)
    }

    /// Removes what [`RunFolder::create`] created, for a run that fails before its first step: the user can then
    /// correct the command and use the same `--output`. Existing logs stay. A folder with any results stays unchanged.
    pub fn abandon(self) {
        if self.check().is_err() {
            return;
        }
        let has_metrics = fs::metadata(self.metrics()).is_ok_and(|file| file.len() > 0);
        if has_metrics
            || [self.checkpoints(), self.final_weights(), self.result()].iter().any(|path| path.exists())
        {
            return;
        }
        // What cannot be removed stays, and the error of the next run reports it.
        for file in [self.metrics(), self.path().join(layout::STATUS), self.config()] {
            let _ = fs::remove_file(file);
        }
        let _ = fs::remove_dir(self.logs());
        if self.created && is_vacant(self.path()) && !self.logs().exists() {
            let _ = fs::remove_file(self.path().join(layout::LOCK));
            let _ = fs::remove_dir(self.path());
        }
    }

    fn claim_folder(path: &Path, created: bool) -> Result<Self, RunFolderError> {
        Ok(Self { claim: Arc::new(Claim::take(path)?), created })
    }

    /// Locks the folder `path`, and creates it if it does not exist; refuses one that contains a run.
    fn occupy(path: &Path, config_toml: &str) -> Result<Self, RunFolderError> {
        let created = !path.exists();
        fs::create_dir_all(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => RunFolderError::NotAFolder { path: path.to_path_buf() },
            _ => RunFolderError::io("create", "the run folder", path, error),
        })?;
        let folder = Self::claim_folder(path, created)?;
        // Checked only under the lock, so that only one of two runs that start at once finds the folder free.
        let files: Vec<&str> = MARKS.into_iter().filter(|name| path.join(name).exists()).collect();
        if files.is_empty() {
            return Ok(folder);
        }
        let (state, remedy) = describe(path, &files, config_toml)?;
        Err(RunFolderError::Occupied { folder: path.to_path_buf(), state, files, remedy })
    }

    /// Locks the folder `path` and removes the files of an unfinished run without checkpoints.
    fn clear(path: &Path) -> Result<Self, RunFolderError> {
        let created = !path.exists();
        fs::create_dir_all(path)
            .map_err(|error| RunFolderError::io("create", "the run folder", path, error))?;
        let folder = Self::claim_folder(path, created)?;
        for file in [folder.metrics(), path.join(layout::STATUS)] {
            remove(&file)?;
        }
        Ok(folder)
    }

    fn occupy_next(first: &Path, config_toml: &str) -> Result<Self, RunFolderError> {
        for number in 1..=MOST_TRIES {
            let path = if number == 1 { first.to_path_buf() } else { numbered(first, number) };
            if path.exists() && !is_vacant(&path) {
                continue;
            }
            match Self::occupy(&path, config_toml) {
                Err(RunFolderError::Occupied { .. } | RunFolderError::Locked { .. }) => {}
                outcome => return outcome,
            }
        }
        Err(RunFolderError::NamesUsedUp { first: first.to_path_buf(), tries: MOST_TRIES - 1 })
    }
}

impl RunDestination {
    /// The folder of the run that was started last below the parent, if there is any.
    pub fn latest(&self) -> Option<PathBuf> {
        let holds_a_run = |path: &PathBuf| MARKS.iter().any(|name| path.join(name).exists());
        match self {
            Self::Named(path) => Some(path.clone()).filter(holds_a_run),
            Self::Default { .. } => {
                let first = self.first_choice();
                let numbers =
                    (1..=MOST_TRIES).map(|n| if n == 1 { first.clone() } else { numbered(&first, n) });
                let runs = numbers.take_while(|path| path.exists()).filter(holds_a_run);
                let started = |path: &PathBuf| {
                    fs::metadata(path.join(layout::CONFIG)).and_then(|file| file.modified()).ok()
                };
                runs.max_by_key(started)
            }
        }
    }

    /// Whether a run that resumes from `run` gets a separate folder here.
    pub fn is_other_than(&self, run: &Path) -> bool {
        matches!(self, Self::Named(path) if !same_folder(path, run))
    }

    fn first_choice(&self) -> PathBuf {
        match self {
            Self::Named(path) => path.clone(),
            Self::Default { parent, data, model, method, seed } => {
                parent.join(format!("{}-{}-{}-seed{seed}", plain(data), plain(model), plain(method)))
            }
        }
    }
}

/// Removes a file of an earlier start, if it exists.
fn remove(file: &Path) -> Result<(), RunFolderError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RunFolderError::io("remove", "a file of the last start", file, error))
        }
        _ => Ok(()),
    }
}

/// The name of a preset as a part of a folder name. Of a preset that is a path, the file name is used.
fn plain(name: &str) -> String {
    let stem = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".toml");
    let plain = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | '@');
    stem.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect()
}

fn same_folder(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

fn numbered(first: &Path, number: u32) -> PathBuf {
    let mut name = first.as_os_str().to_owned();
    name.push(format!("-{number}"));
    name.into()
}

/// Whether the folder contains only what an abandoned run leaves.
fn is_vacant(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| {
        entries.all(|entry| {
            entry
                .is_ok_and(|entry| [layout::LOCK, layout::LOGS].iter().any(|name| entry.file_name() == *name))
        })
    })
}

/// Describes the run in the folder, with the remedy for a user who wants to start another.
fn describe(
    path: &Path,
    files: &[&str],
    config_toml: &str,
) -> Result<(String, &'static str), RunFolderError> {
    const ANOTHER: &str = "choose another --output";
    const START_AGAIN: &str = "resume it with --resume auto, or choose another --output";
    if files.contains(&layout::RESULT) {
        return Ok(("a finished run".into(), ANOTHER));
    }
    if !files.contains(&layout::CONFIG) {
        return Ok(("parts of a run".into(), ANOTHER));
    }
    let ours = settings(config_toml).map_err(|reason| RunFolderError::Content {
        what: "resolved configuration for",
        path: path.to_path_buf(),
        line: None,
        reason,
    })?;
    let theirs = fs::read_to_string(path.join(layout::CONFIG))
        .map_err(|error| error.to_string())
        .and_then(|text| settings(&text));
    let Ok(theirs) = theirs else {
        return Ok(("an unfinished run whose configuration cannot be read".into(), ANOTHER));
    };
    let differences = differences(&theirs, &ours);
    if differences.is_empty() {
        return Ok(("an unfinished run of this configuration".into(), START_AGAIN));
    }
    let more = differences.len().saturating_sub(MOST_DIFFERENCES);
    let listed = differences[..differences.len() - more].join(", ");
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    Ok((format!("an unfinished run of another configuration: {listed}{more}"), ANOTHER))
}

/// Every setting by its dotted key, without origins and the format version.
fn settings(text: &str) -> Result<BTreeMap<String, String>, String> {
    fn collect(prefix: &str, table: &toml::Table, into: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::Table(table) => collect(&key, table, into),
                value => drop(into.insert(key, value.to_string())),
            }
        }
    }
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    table.retain(|name, _| !["format", "origins"].contains(&name));
    let mut into = BTreeMap::new();
    collect("", &table, &mut into);
    Ok(into)
}

/// Settings that both have with different values. A setting that only one of them has belongs to another version of the
/// program; the check on resume compares its default.
fn differences(theirs: &BTreeMap<String, String>, ours: &BTreeMap<String, String>) -> Vec<String> {
    let shown = |value: &String| {
        if value.chars().count() > LONGEST_VALUE {
            return value.chars().take(LONGEST_VALUE).chain("...".chars()).collect();
        }
        value.clone()
    };
    let both = ours.iter().filter_map(|(key, ours)| Some((key, theirs.get(key)?, ours)));
    both.filter(|(_, theirs, ours)| theirs != ours)
        .map(|(key, theirs, ours)| format!("{key} is {} there and {} here", shown(theirs), shown(ours)))
        .collect()
}

#[cfg(test)]
mod tests;
