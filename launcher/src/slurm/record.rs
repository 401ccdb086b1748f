//! Records of which job writes which run folder, stored in the run folder and in the user's state folder.

use super::SlurmError;
use protocol::{Timestamp, layout, write_atomically};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A job that `lift submit` submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Job number.
    pub job: String,
    /// Job name.
    pub name: String,
    /// The run folder; for an array, the parent of the run folders of its tasks.
    pub run: PathBuf,
    /// For an array: the run folder of a task, with `%a` for its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<PathBuf>,
    /// Folder for the output of the job, or of each task of the array.
    pub logs: PathBuf,
    /// The folder from which it was submitted.
    pub submit_folder: PathBuf,
    /// The time of submission.
    pub time: Timestamp,
}

/// The argument of a command: a job, a run folder, or both.
#[derive(Debug, Clone)]
pub struct JobOrRun {
    /// The job, if there is one.
    pub record: Option<JobRecord>,
    /// The run folder.
    pub run: PathBuf,
}

impl JobRecord {
    /// Writes the record to both places, also to the second one if the first one fails.
    pub fn keep(&self) -> Result<(), SlurmError> {
        let in_run = self.write(&self.run.join(layout::JOB));
        let folder = state_folder();
        std::fs::create_dir_all(&folder).map_err(|source| SlurmError::File {
            operation: "create",
            path: folder.clone(),
            source,
        })?;
        self.write(&folder.join(format!("{}.json", self.job))).and(in_run)
    }

    fn write(&self, path: &Path) -> Result<(), SlurmError> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        write_atomically(path, &text).map_err(|source| SlurmError::File {
            operation: "write",
            path: path.to_owned(),
            source,
        })
    }

    /// Whether this is an entire array, not one of its tasks.
    pub const fn is_array(&self) -> bool {
        self.tasks.is_some()
    }

    /// One task of this array, as a separate job.
    pub fn task(&self, number: u32) -> Option<Self> {
        let template = self.tasks.as_ref()?.to_string_lossy();
        let run = PathBuf::from(template.replace("%a", &number.to_string()));
        Some(Self { job: format!("{}_{number}", self.job), run, tasks: None, ..self.clone() })
    }

    /// The output file of the job.
    pub fn output(&self) -> PathBuf {
        self.logs.join(format!("slurm-{}.out", self.job))
    }

    /// All records in the state folder, the newest first. Other files are skipped.
    pub fn all() -> Vec<Self> {
        let entries = std::fs::read_dir(state_folder()).into_iter().flatten().flatten();
        let mut records: Vec<Self> = entries.filter_map(|entry| read(&entry.path())).collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.time));
        records
    }
}

/// Resolves the number of a job, of a task of an array, or a run folder.
pub fn find(name: &str) -> Result<JobOrRun, SlurmError> {
    let (job, task) = number_and_task(name);
    let number = !job.is_empty() && job.bytes().all(|byte| byte.is_ascii_digit());
    let record = if number { read(&state_folder().join(format!("{job}.json"))) } else { None };
    if let Some(record) = record {
        let no_array = || {
            SlurmError::InvalidArguments(format!("job {job} is no array, so `{name}` is none of its tasks"))
        };
        let record = match task {
            Some(task) => record.task(task).ok_or_else(no_array)?,
            None => record,
        };
        return Ok(JobOrRun { run: record.run.clone(), record: Some(record) });
    }
    let run = PathBuf::from(name);
    if !run.is_dir() {
        return Err(SlurmError::Unknown(name.to_owned()));
    }
    Ok(JobOrRun { record: read(&run.join(layout::JOB)), run })
}

/// `JOB` or `JOB_TASK`.
fn number_and_task(name: &str) -> (&str, Option<u32>) {
    let parts = name.split_once('_').and_then(|(job, task)| Some((job, task.parse().ok()?)));
    parts.map_or((name, None), |(job, task)| (job, Some(task)))
}

fn read(path: &Path) -> Option<JobRecord> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn state_folder() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    state.unwrap_or_else(|| PathBuf::from("/tmp")).join("lift/jobs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_the_folder_and_the_log_of_its_number() {
        let array = JobRecord {
            job: "17".into(),
            name: "lift".into(),
            run: "/home/me/runs".into(),
            tasks: Some("/home/me/runs/seed-%a/of-%a".into()),
            logs: "/home/me/runs/logs".into(),
            submit_folder: "/home/me".into(),
            time: Timestamp::now(),
        };
        let task = array.task(3).unwrap();
        assert!(array.is_array() && !task.is_array());
        assert_eq!((task.job.as_str(), task.run.to_str().unwrap()), ("17_3", "/home/me/runs/seed-3/of-3"));
        assert_eq!(task.output(), Path::new("/home/me/runs/logs/slurm-17_3.out"));
        assert_eq!(task.task(3), None);
    }

    #[test]
    fn only_numbers_are_tasks() {
        assert_eq!(number_and_task("17_03"), ("17", Some(3)));
        assert_eq!(number_and_task("17"), ("17", None));
        assert_eq!(number_and_task("runs_old"), ("runs_old", None));
    }
}
