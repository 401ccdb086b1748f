//! `lift cancel`: asks the ranks to save, then ends the job.

use super::controller::{ask, running_tasks, state};
use super::record::find;
use super::{JobRecord, SlurmError};
use protocol::{Status, layout};
use std::path::Path;
use std::time::{Duration, Instant};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Looks at the run folders between two questions to Slurm.
const LOOKS: u32 = 4;

/// Ends a job, a task of an array, or a whole array for good. Ranks have `grace` to save first; none means at once.
pub fn cancel(name: &str, grace: Option<Duration>) -> Result<String, SlurmError> {
    let found = find(name)?;
    let Some(record) = found.record else {
        let run = found.run.display();
        return Err(SlurmError::Nonsense(format!(
            "`{run}` is a run without a job; stop it with Ctrl-C, or with `kill PID` of its lift or trainer"
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

/// A job, or a task of an array, whose ranks were asked to save.
struct SaveRequest {
    job: String,
    record: JobRecord,
    /// What its run said before: it may be the end of an earlier start.
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
        // A task that waits would begin when another one ends. None may be waiting.
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
        // One that has ended by now needs no wish.
        if ask("scancel", &["--signal=USR2", &job], None).is_ok() {
            asked.push(SaveRequest { job, record, before });
        }
    }
    Ok(asked)
}

/// The job itself, or the tasks of an array that run.
fn running(record: &JobRecord) -> Result<Vec<JobRecord>, SlurmError> {
    if !record.is_array() {
        return Ok(vec![record.clone()]);
    }
    Ok(running_tasks(&record.job)?.into_iter().filter_map(|number| record.task(number)).collect())
}

/// The batch script would put a job back into the queue whose ranks have saved.
fn mark(run: &Path) -> Result<(), SlurmError> {
    let logs = run.join(layout::LOGS);
    let mark = logs.join(layout::CANCELLED);
    std::fs::create_dir_all(&logs)
        .and_then(|()| std::fs::write(&mark, ""))
        .map_err(|source| SlurmError::File { operation: "write", path: mark, source })
}
