//! `lift submit`: from the options to a job in the queue.

use super::controller::ask;
use super::render::{Rendered, render};
use super::{JobOptions, JobRecord, SlurmError};
use protocol::Timestamp;
use protocol::terminal::{OutputError, OutputReader, escaped_line, print, print_json, say};
use serde_json::json;
use std::path::Path;

/// What to look at when sbatch refuses.
const HINT: &str = "`sinfo -o '%P %G %l'` lists partitions with their GPUs and time limits, `sacctmgr show assoc user=$USER` \
    your accounts; then correct --partition, --gpus-per-node, --time, --mem, --account or --qos";

/// Submits, tells the job's number, and keeps a record of it.
pub fn submit(job: &JobOptions, here: &Path, json: bool) -> Result<(), SlurmError> {
    let record = send(job, here)?;
    // The job is in the queue, whatever becomes of its record.
    let told = tell(&record, json);
    if let Err(error) = record.keep() {
        say(format_args!("warning: {error}; `lift` may not find job {} again, `squeue` does", record.job));
    }
    told?;
    Ok(())
}

/// Creates the folder of the log, and submits.
fn send(job: &JobOptions, here: &Path) -> Result<JobRecord, SlurmError> {
    let Rendered { text, run, tasks, logs } = render(job, here)?;
    // A job whose log cannot be opened fails without a word.
    std::fs::create_dir_all(&logs).map_err(|source| SlurmError::File {
        operation: "create",
        path: logs.clone(),
        source,
    })?;
    let path = logs.join("job.sbatch");
    std::fs::write(&path, &text).map_err(|source| SlurmError::File {
        operation: "write",
        path: path.clone(),
        source,
    })?;
    let said = ask("sbatch", &["--parsable", &path.to_string_lossy()], Some(HINT))?;
    let number = said.trim().split(';').next().unwrap_or_default().to_owned();
    let (name, time) = (job.job_name.clone(), Timestamp::now());
    Ok(JobRecord { job: number, name, run, tasks, logs, submit_folder: here.to_owned(), time })
}

/// Tells about a job that was submitted.
fn tell(record: &JobRecord, json: bool) -> Result<OutputReader, OutputError> {
    if json {
        return print_json(&format!("{}\n", json!(record)));
    }
    let (job, run) = (&record.job, record.run.display().to_string());
    let task = if record.is_array() { "_TASK" } else { "" };
    print(&format!(
        "job {job}, run folder {}\nfollow it with: lift logs -f {job}{task}; lift status {job}{task}; lift cancel {job}\n",
        escaped_line(&run)
    ))
}
