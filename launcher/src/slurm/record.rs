//! Which job writes which run folder: kept in the run folder and in the person's state folder.

use super::SlurmError;
use crate::protocol::{Timestamp, layout, write_atomically};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A job that `lift submit` sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Slurm's number.
    pub job: String,
    /// Its name.
    pub name: String,
    /// The run folder; for an array the folder of its tasks' folders.
    pub run: PathBuf,
    /// Where it was submitted.
    pub submit_folder: PathBuf,
    /// When.
    pub time: Timestamp,
}

/// What a person names: a job, a run folder, or both.
#[derive(Debug, Clone)]
pub struct Found {
    /// The job, if there is one.
    pub record: Option<Record>,
    /// The run folder.
    pub run: PathBuf,
}

impl Record {
    /// Writes it to both places.
    pub fn keep(&self) -> Result<(), SlurmError> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        let folder = state_folder();
        std::fs::create_dir_all(&folder).map_err(|source| SlurmError::File {
            operation: "create",
            path: folder.clone(),
            source,
        })?;
        for path in [self.run.join(layout::JOB), folder.join(format!("{}.json", self.job))] {
            write_atomically(&path, &text).map_err(|source| SlurmError::File {
                operation: "write",
                path,
                source,
            })?;
        }
        Ok(())
    }

    /// All that are known here, the newest first. Files that are no records are passed over.
    pub fn all() -> Vec<Self> {
        let entries = std::fs::read_dir(state_folder()).into_iter().flatten().flatten();
        let mut records: Vec<Self> = entries.filter_map(|entry| read(&entry.path())).collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.time));
        records
    }
}

/// A job by its number (that of one task of an array, too), or a run folder.
pub fn find(name: &str) -> Result<Found, SlurmError> {
    let (job, task) = name.split_once('_').map_or((name, None), |(job, task)| (job, Some(task)));
    let number = !job.is_empty() && job.bytes().all(|byte| byte.is_ascii_digit());
    let record = if number { read(&state_folder().join(format!("{job}.json"))) } else { None };
    if let Some(record) = record {
        let run = task.map_or_else(|| record.run.clone(), |task| task_folder(&record.run, task));
        return Ok(Found { record: Some(Record { job: name.to_owned(), ..record }), run });
    }
    let run = PathBuf::from(name);
    if !run.is_dir() {
        return Err(SlurmError::Unknown(name.to_owned()));
    }
    Ok(Found { record: read(&run.join(layout::JOB)), run })
}

fn task_folder(run: &Path, task: &str) -> PathBuf {
    let named = run.join(task);
    if named.is_dir() { named } else { run.join(format!("task-{task}")) }
}

fn read(path: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn state_folder() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    state.unwrap_or_else(|| PathBuf::from("/tmp")).join("lift/jobs")
}
