//! `lift cancel`: asks the ranks to save, then ends the job.

use super::controller::{ask, running_tasks, state};
use super::record::find;
use super::{JobRecord, SlurmError};
use protocol::{Status, layout};
use std::path::Path;
use std::time::{Duration, Instant};

/// Polling interval.
const LOOK: Duration = Duration::from_millis(500);
/// Polls of the run folders per query to Slurm.
const LOOKS: u32 = 4;

/// Cancels a job, a task of an array, or an entire array. Ranks have `grace` to save first; `None` cancels at once.
pub fn cancel(name: &str, grace: Option<Duration>) -> Result<String, SlurmError> {
    let found = find(name)?;
    let Some(record) = found.record else {
        let run = found.run.display();
        return Err(SlurmError::InvalidArguments(format!(
            "`{run}` is a run without a job\nhint: stop it with Ctrl-C, or with `kill PID` of its lift or trainer"
        )));
    };
    let job = record.job.as_str();
    let before = state(job);
    if before.has_ended() {
        return Ok(format!("job {job} ended before ({}); there is nothing to cancel", before.state));
    }
    let asked = match grace.filter(|_| before.state == "RUNNING") {
        Some(grace) => save(&record, grace)?,
        None => Vec::new(),
    };
    ask("scancel", &[job], Some("`lift status` shows the jobs that lift knows, `squeue --me` all of yours"))?;
    let saved = asked.iter().filter(|one| one.has_saved()).count();
    let how = if record.is_array() && !asked.is_empty() {
        let plural = if asked.len() == 1 { "task" } else { "tasks" };
        format!("after {saved} of {} running {plural} saved", asked.len())
    } else {
        how(&record, &before.state, saved > 0)
    };
    Ok(format!("job {job} cancelled {how}"))
}

fn how(record: &JobRecord, before: &str, saved: bool) -> String {
    let step = Status::read(&record.run).map_or(0, |status| status.step);
    if saved {
        format!("after saving at step {step}")
    } else if before == "PENDING" {
        format!("while it waited, at step {step}")
    } else {
        format!("at step {step}, without waiting for a save")
    }
}

/// A request to save, sent to the ranks of a job or of a task of an array.
struct SaveRequest {
    job: String,
    record: JobRecord,
    /// The status of its run before the request: it may be the end of an earlier attempt.
    before: Option<Status>,
}

impl SaveRequest {
    fn has_saved(&self) -> bool {
        let now = Status::read(&self.record.run).ok();
        now != self.before && now.is_some_and(|status| status.phase.is_final())
    }
}

/// Asks the ranks of a job, or those of all running tasks of an array, to save, and waits for them.
fn save(record: &JobRecord, grace: Duration) -> Result<Vec<SaveRequest>, SlurmError> {
    if record.is_array() {
        // A pending task would start when another one ends, so all pending tasks are cancelled first.
        let _ = ask("scancel", &["--state=PENDING", &record.job], None);
    }
    let asked = ask_to_save(record)?;
    let start = Instant::now();
    let mut waiting: Vec<&SaveRequest> = asked.iter().collect();
    for look in 1_u32.. {
        if waiting.is_empty() || start.elapsed() >= grace {
            break;
        }
        std::thread::sleep(LOOK);
        let runs = |one: &SaveRequest| look % LOOKS != 0 || state(&one.job).state == "RUNNING";
        waiting.retain(|one| !one.has_saved() && runs(one));
    }
    Ok(asked)
}

fn ask_to_save(record: &JobRecord) -> Result<Vec<SaveRequest>, SlurmError> {
    let mut asked = Vec::new();
    for record in running(record)? {
        let (job, before) = (record.job.clone(), Status::read(&record.run).ok());
        mark(&record.run)?;
        // A task that has ended in the meantime needs no signal.
        if ask("scancel", &["--signal=USR2", &job], None).is_ok() {
            asked.push(SaveRequest { job, record, before });
        }
    }
    Ok(asked)
}

/// The job itself, or the running tasks of an array.
fn running(record: &JobRecord) -> Result<Vec<JobRecord>, SlurmError> {
    if !record.is_array() {
        return Ok(vec![record.clone()]);
    }
    Ok(running_tasks(&record.job)?.into_iter().filter_map(|number| record.task(number)).collect())
}

/// Marks the job as cancelled. Otherwise `lift job` would requeue it after its ranks have saved.
fn mark(run: &Path) -> Result<(), SlurmError> {
    let logs = run.join(layout::LOGS);
    let mark = logs.join(layout::CANCELLED);
    std::fs::create_dir_all(&logs)
        .and_then(|()| std::fs::write(&mark, ""))
        .map_err(|source| SlurmError::File { operation: "write", path: mark, source })
}
