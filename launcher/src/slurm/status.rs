//! `lift status`: the state of jobs and runs.

use super::SlurmError;
use super::controller::{self, JobState};
use super::record::{JobOrRun, JobRecord, find};
use protocol::terminal::escaped_line;
use protocol::{Phase, Status, hint};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Number of jobs listed when none is named.
const MOST: usize = 20;

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct StatusRow {
    /// Job number; `None` for a run without a recorded job.
    pub job: Option<String>,
    /// State according to Slurm.
    pub slurm: Option<String>,
    /// Phase of the run; `None` before the run has started.
    pub phase: Option<Phase>,
    /// Steps done over the whole run.
    pub step: Option<u64>,
    /// The current epoch, counted from 0, which is also the number of finished epochs.
    pub epoch: Option<u64>,
    /// Seconds since the last heartbeat of the run.
    pub heartbeat_seconds: Option<u64>,
    /// How often Slurm restarted the job.
    pub restarts: Option<u64>,
    /// The run folder.
    pub run: PathBuf,
    /// The message of the run about its end.
    pub message: Option<String>,
}

/// The rows of the named jobs and runs, or of the newest jobs.
pub fn rows(names: &[String]) -> Result<Vec<StatusRow>, SlurmError> {
    if names.is_empty() {
        let records = JobRecord::all().into_iter().take(MOST);
        return Ok(records
            .map(|record| row(&JobOrRun { run: record.run.clone(), record: Some(record) }))
            .collect());
    }
    names.iter().map(|name| find(name).map(|found| row(&found))).collect()
}

fn row(found: &JobOrRun) -> StatusRow {
    let status = Status::read(&found.run).ok();
    let job: Option<JobState> = found.record.as_ref().map(|record| controller::state(&record.job));
    let status = status.as_ref();
    StatusRow {
        job: found.record.as_ref().map(|record| record.job.clone()),
        restarts: job.as_ref().map(|job| job.restarts),
        slurm: job.map(|job| job.state),
        phase: status.map(|status| status.phase),
        step: status.map(|status| status.step),
        epoch: status.map(|status| status.epoch),
        heartbeat_seconds: status.map(|status| status.time.age().as_secs()),
        run: found.run.clone(),
        message: status.and_then(|status| status.explanation().map(hint::in_one_line)),
    }
}

/// The rows as a table for the terminal.
pub fn table(rows: &[StatusRow]) -> String {
    if rows.is_empty() {
        return "`lift submit` has submitted no job from here\nhint: name a run folder to see a job of sbatch or a run without one\n"
            .to_owned();
    }
    let titles =
        ["job", "slurm", "phase", "steps", "epochs", "heartbeat", "restarts", "run"].map(str::to_owned);
    let lines: Vec<[String; 8]> = std::iter::once(titles).chain(rows.iter().map(cells)).collect();
    let widths: Vec<usize> = (0..8)
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        text.push_str(padded.collect::<String>().trim_end());
        text.push('\n');
        if let Some(message) = index.checked_sub(1).and_then(|row| rows[row].message.as_ref()) {
            let _ = writeln!(text, "    {}", escaped_line(message));
        }
    }
    text
}

fn cells(row: &StatusRow) -> [String; 8] {
    let dash = || "-".to_owned();
    let number = |number: Option<u64>| number.map_or_else(dash, |number| number.to_string());
    let phase = row.phase.map_or_else(dash, |phase| format!("{phase:?}").to_lowercase());
    let heartbeat = row.heartbeat_seconds.map_or_else(dash, age);
    [
        row.job.clone().unwrap_or_else(dash),
        row.slurm.clone().unwrap_or_else(dash),
        phase,
        number(row.step),
        number(row.epoch),
        heartbeat,
        number(row.restarts),
        row.run.display().to_string(),
    ]
    .map(|cell| escaped_line(&cell).into_owned())
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lines_up_and_says_why() {
        let run = StatusRow {
            job: Some("17".into()),
            slurm: Some("RUNNING".into()),
            phase: Some(Phase::Training),
            step: Some(1200),
            epoch: Some(3),
            heartbeat_seconds: Some(4),
            restarts: Some(1),
            run: "runs/a".into(),
            message: None,
        };
        let local = StatusRow {
            job: None,
            slurm: None,
            phase: Some(Phase::Failed),
            heartbeat_seconds: Some(7300),
            restarts: None,
            run: "runs/b".into(),
            message: Some("rank 1 is gone\u{1b}]0;x\u{7}\nand".into()),
            ..run.clone()
        };
        let expected = "\
job  slurm    phase     steps  epochs  heartbeat  restarts  run
17   RUNNING  training  1200   3       4 s ago    1         runs/a
-    -        failed    1200   3       2 h ago    -         runs/b
    rank 1 is gone\\u{1b}]0;x\\u{7}\\nand
";
        assert_eq!(table(&[run, local]), expected);
        assert!(table(&[]).starts_with("`lift submit` has submitted no job from here"));
    }
}
