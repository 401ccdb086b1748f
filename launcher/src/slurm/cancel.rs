//! `lift cancel`: asks the ranks to save, then ends the job.

use super::SlurmError;
use super::controller::{ask, state};
use super::record::find;
use crate::protocol::{Status, layout};
use std::time::{Duration, Instant};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Ends a job for good. Ranks have `grace` to save first; none means at once.
pub fn cancel(name: &str, grace: Option<Duration>) -> Result<String, SlurmError> {
    let found = find(name)?;
    let Some(record) = found.record else {
        let run = found.run.display();
        return Err(SlurmError::Nonsense(format!(
            "`{run}` is a run without a job; stop it with Ctrl-C, or with `kill PID` of its lift or trainer"
        )));
    };
    let job = record.job.as_str();
    let mut saved = false;
    let before = state(job).state;
    if has_ended(&before) {
        return Ok(format!("job {job} ended before ({before}); there is nothing to cancel"));
    }
    if let Some(grace) = grace.filter(|_| before == "RUNNING") {
        // The batch script would put a job back into the queue whose ranks have saved.
        let mark = found.run.join(layout::LOGS).join(layout::CANCELLED);
        std::fs::write(&mark, "").map_err(|source| SlurmError::File {
            operation: "write",
            path: mark,
            source,
        })?;
        ask("scancel", &["--signal=USR2", job], None)?;
        let start = Instant::now();
        while start.elapsed() < grace && !saved {
            std::thread::sleep(LOOK);
            saved = Status::read(&found.run).is_ok_and(|status| status.phase.is_final());
        }
    }
    ask("scancel", &[job], Some("`lift status` shows the jobs that lift knows, `squeue --me` all of yours"))?;
    let step = Status::read(&found.run).map_or(0, |status| status.step);
    let how = if saved {
        format!("after saving at step {step}")
    } else if before == "PENDING" {
        format!("while it waited, at step {step}")
    } else {
        format!("at step {step}, without waiting for a save")
    };
    Ok(format!("job {job} cancelled {how}"))
}

/// Whether Slurm is through with a job in this state.
fn has_ended(state: &str) -> bool {
    const OVER: [&str; 8] = [
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "TIMEOUT",
    ];
    OVER.contains(&state)
}
