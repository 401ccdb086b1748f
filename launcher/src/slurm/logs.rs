//! `lift logs`: what a rank did, or what a job printed.

use super::SlurmError;
use super::record::find;
use crate::protocol::{Status, layout};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time between two looks at a log that is followed.
const LOOK: Duration = Duration::from_millis(250);

/// Prints a log; with `follow`, what is added until the run has ended.
pub fn print(name: &str, rank: Option<usize>, follow: bool) -> Result<(), SlurmError> {
    let found = find(name)?;
    let logs = found.run.join(layout::LOGS);
    let printed = || found.record.as_ref().and_then(|record| job_output(&logs, &record.job));
    let path = match rank {
        Some(rank) => logs.join(layout::rank_log(rank)),
        None => printed().unwrap_or_else(|| logs.join(layout::rank_log(0))),
    };
    let fail = |source| SlurmError::File { operation: "read", path: path.clone(), source };
    while follow && !path.exists() && !ended(&found.run) {
        std::thread::sleep(LOOK);
    }
    let mut file = File::open(&path).map_err(fail)?;
    if !follow && file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        eprintln!("`{}` is empty so far", path.display());
    }
    loop {
        let last = !follow || ended(&found.run);
        if !copy(&mut file).map_err(fail)? || last {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

fn ended(run: &Path) -> bool {
    // A preempted run goes on, so its log does.
    Status::read(run)
        .is_ok_and(|status| status.phase.is_final() && status.phase != crate::protocol::Phase::Preempted)
}

/// Prints what is new. False when nobody reads any more.
fn copy(file: &mut File) -> io::Result<bool> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    match io::stdout().write_all(&bytes).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true),
    }
}

fn job_output(logs: &Path, job: &str) -> Option<PathBuf> {
    let path = logs.join(format!("slurm-{job}.out"));
    path.exists().then_some(path)
}
