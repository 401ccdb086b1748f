//! `lift submit`: from the options to a job in the queue.

use super::controller::ask;
use super::render::render;
use super::{Job, Record, SlurmError};
use crate::protocol::{Timestamp, layout};
use std::io::{self, Write};

/// What to look at when sbatch refuses.
const HINT: &str = "`sinfo -o '%P %G %l'` lists partitions with their GPUs and time limits, `sacctmgr show assoc user=$USER` \
    your accounts; then correct --partition, --gpus-per-node, --time, --mem, --account or --qos";

/// Creates the folder of the log, submits, and keeps a record of it.
pub fn submit(job: &Job) -> Result<Record, SlurmError> {
    let here = std::env::current_dir().map_err(|source| SlurmError::File {
        operation: "find",
        path: ".".into(),
        source,
    })?;
    let script = render(job, &here)?;
    // A job whose log cannot be opened fails without a word.
    let logs = script.run.join(layout::LOGS);
    std::fs::create_dir_all(&logs).map_err(|source| SlurmError::File {
        operation: "create",
        path: logs.clone(),
        source,
    })?;
    let path = logs.join("job.sbatch");
    std::fs::write(&path, &script.text).map_err(|source| SlurmError::File {
        operation: "write",
        path: path.clone(),
        source,
    })?;
    let said = ask("sbatch", &["--parsable", &path.to_string_lossy()], Some(HINT))?;
    let job_number = said.trim().split(';').next().unwrap_or_default().to_owned();
    let (name, run) = (job.job_name.clone(), script.run);
    let record = Record { job: job_number, name, run, submit_folder: here, time: Timestamp::now() };
    record.keep()?;
    Ok(record)
}

/// Tells about a job that was submitted.
pub fn tell(record: &Record, json: bool) -> io::Result<()> {
    let mut out = io::stdout();
    if json {
        return writeln!(out, "{}", serde_json::to_string(record)?);
    }
    writeln!(out, "job {}, run folder {}", record.job, record.run.display())?;
    writeln!(out, "follow it with: lift logs -f {0}; lift status {0}; lift cancel {0}", record.job)
}
