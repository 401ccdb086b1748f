//! `lift submit`: submits a job to Slurm.

use super::controller::ask;
use super::render::{Rendered, render};
use super::{JobOptions, JobRecord, SlurmError};
use protocol::Timestamp;
use protocol::terminal::{OutputError, OutputReader, escaped_line, print, print_json, say};
use serde_json::json;
use std::path::Path;

/// The hint when sbatch refuses a job.
const HINT: &str = "`sinfo -o '%P %G %l'` lists partitions with their GPUs and time limits, `sacctmgr show assoc user=$USER` \
    your accounts; then correct --partition, --gpus-per-node, --time, --mem, --account or --qos";

/// Submits the job, prints its number, and stores a record of it.
pub fn submit(job: &JobOptions, here: &Path, json: bool) -> Result<(), SlurmError> {
    let record = send(job, here)?;
    // The job is in the queue even if its record cannot be written.
    let printed = print_job(&record, json);
    if let Err(error) = record.keep() {
        say(format_args!("warning: {error}; `lift` may not find job {}\nhint: use `squeue`", record.job));
    }
    printed?;
    Ok(())
}

/// Creates the log folder and submits the job.
fn send(job: &JobOptions, here: &Path) -> Result<JobRecord, SlurmError> {
    let Rendered { text, run, tasks, logs } = render(job, here)?;
    // Slurm fails a job silently if it cannot open the log.
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

/// Prints the number and run folder of a submitted job.
fn print_job(record: &JobRecord, json: bool) -> Result<OutputReader, OutputError> {
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
