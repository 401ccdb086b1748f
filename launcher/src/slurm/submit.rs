//! `lift submit`: from the options to a job in the queue.

use super::controller::ask;
use super::render::{Rendered, render};
use super::{Job, Record, SlurmError};
use crate::protocol::Timestamp;
use std::io::{self, Write};

/// What to look at when sbatch refuses.
const HINT: &str = "`sinfo -o '%P %G %l'` lists partitions with their GPUs and time limits, `sacctmgr show assoc user=$USER` \
    your accounts; then correct --partition, --gpus-per-node, --time, --mem, --account or --qos";

/// Submits, tells the job's number, and keeps a record of it.
pub fn submit(job: &Job, json: bool) -> Result<io::Result<()>, SlurmError> {
    let record = send(job)?;
    // The job is in the queue, whatever becomes of its record.
    let told = tell(&record, json);
    if let Err(error) = record.keep() {
        eprintln!("warning: {error}; `lift` may not find job {} again, `squeue` does", record.job);
    }
    Ok(told)
}

/// Creates the folder of the log, and submits.
fn send(job: &Job) -> Result<Record, SlurmError> {
    let here = std::env::current_dir().map_err(|source| SlurmError::File {
        operation: "find",
        path: ".".into(),
        source,
    })?;
    let Rendered { text, run, tasks, logs } = render(job, &here)?;
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
    Ok(Record { job: number, name, run, tasks, logs, submit_folder: here, time })
}

/// Tells about a job that was submitted.
fn tell(record: &Record, json: bool) -> io::Result<()> {
    let mut out = io::stdout();
    if json {
        return writeln!(out, "{}", serde_json::to_string(record)?);
    }
    writeln!(out, "job {}, run folder {}", record.job, record.run.display())?;
    let task = if record.is_array() { "_TASK" } else { "" };
    writeln!(
        out,
        "follow it with: lift logs -f {0}{task}; lift status {0}{task}; lift cancel {0}",
        record.job
    )
}
