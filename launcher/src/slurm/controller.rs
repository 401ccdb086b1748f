//! Calls to Slurm's programs.

use super::SlurmError;
use std::process::{Command, Output};

/// Runs one of Slurm's programs. If it fails, the error contains its message and a hint.
pub(super) fn ask(program: &str, arguments: &[&str], hint: Option<&str>) -> Result<String, SlurmError> {
    let output = output(program, arguments)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(SlurmError::Refused { program: program.to_owned(), said, hint: hint.map(str::to_owned) })
}

fn output(program: &str, arguments: &[&str]) -> Result<Output, SlurmError> {
    let no_slurm = |source| SlurmError::NoSlurm { program: program.to_owned(), source };
    Command::new(program).args(arguments).output().map_err(no_slurm)
}

/// The state of a job according to Slurm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobState {
    /// `RUNNING`, `PENDING`, ...; `gone` when Slurm has forgotten the job, `?` when it cannot be asked.
    pub(super) state: String,
    /// How often Slurm restarted it.
    pub(super) restarts: u64,
}

impl JobState {
    fn only(state: &str) -> Self {
        Self { state: state.to_owned(), restarts: 0 }
    }

    /// Whether Slurm answered.
    pub(super) fn is_known(&self) -> bool {
        self.state != "?"
    }

    /// Whether the job has ended.
    pub(super) fn has_ended(&self) -> bool {
        const OVER: [&str; 10] = [
            "BOOT_FAIL",
            "CANCELLED",
            "COMPLETED",
            "DEADLINE",
            "FAILED",
            "NODE_FAIL",
            "OUT_OF_MEMORY",
            "PREEMPTED",
            "TIMEOUT",
            "gone",
        ];
        OVER.contains(&self.state.as_str())
    }
}

/// Looks up a job, a task of an array, or an entire array: in the queue, then in the accounting database.
pub(super) fn state(job: &str) -> JobState {
    let Ok(output) = output("scontrol", &["show", "job", "--oneliner", job]) else {
        return JobState::only("?");
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if let Some(found) = parse(&said) {
        return found;
    }
    if !is_forgotten(&said) && !is_forgotten(&String::from_utf8_lossy(&output.stderr)) {
        return JobState::only("?");
    }
    let account = ask("sacct", &["-X", "-n", "-P", "-o", "State", "-j", job], None).unwrap_or_default();
    JobState::only(account.lines().next().and_then(|line| line.split_whitespace().next()).unwrap_or("gone"))
}

/// Whether `scontrol` reports that it does not know the job or the task. Any other error may be temporary.
fn is_forgotten(said: &str) -> bool {
    said.contains("Invalid job id") || (said.starts_with("Job ") && said.trim_end().ends_with(" not found"))
}

/// The numbers of the running tasks of an array.
pub(super) fn running_tasks(array: &str) -> Result<Vec<u32>, SlurmError> {
    let options = ["--noheader", "--array", "--states=RUNNING", "--format=%K"];
    let jobs = format!("--jobs={array}");
    let said = ask("squeue", &[&options[..], &[&jobs]].concat(), None)?;
    Ok(said.lines().filter_map(|line| line.trim().parse().ok()).collect())
}

/// Parses one line per record of a job. An array has several records: it runs as long as one of its tasks runs, and has
/// ended when all tasks have ended.
fn parse(text: &str) -> Option<JobState> {
    let mut records: Vec<JobState> = text.lines().filter_map(parse_line).collect();
    records.sort_by_key(|job| (job.state != "RUNNING", job.has_ended()));
    records.into_iter().next()
}

fn parse_line(line: &str) -> Option<JobState> {
    let field =
        |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let restarts = field("Restarts").and_then(|number| number.parse().ok()).unwrap_or(0);
    Some(JobState { state: field("JobState")?.to_owned(), restarts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_scontrol_says_is_understood() {
        let line = "JobId=7 JobName=a b UserId=root(0) JobState=PENDING Reason=BeginTime Requeue=1 Restarts=2 BatchFlag=1";
        assert_eq!(parse(line), Some(JobState { state: "PENDING".into(), restarts: 2 }));
        assert_eq!(parse("slurm_load_jobs error: Invalid job id specified"), None);
    }

    #[test]
    fn a_silent_controller_has_not_forgotten_the_job() {
        assert!(is_forgotten("slurm_load_jobs error: Invalid job id specified\n"));
        assert!(is_forgotten("Job 17_3 not found\n"));
        assert!(!is_forgotten(
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
        ));
        assert!(!is_forgotten(""));
    }

    #[test]
    fn an_array_runs_as_long_as_one_of_its_tasks() {
        let said = |states: &[&str]| {
            let lines = states.iter().map(|state| format!("JobId=7 ArrayTaskId=1 JobState={state}\n"));
            parse(&lines.collect::<String>()).unwrap().state
        };
        assert_eq!(said(&["COMPLETED", "PENDING", "RUNNING"]), "RUNNING");
        assert_eq!(said(&["COMPLETED", "PENDING"]), "PENDING");
        assert_eq!(said(&["COMPLETED", "FAILED"]), "COMPLETED");
    }

    #[test]
    fn a_job_that_slurm_ended_or_forgot_has_ended() {
        for (state, ended) in
            [("COMPLETED", true), ("PREEMPTED", true), ("gone", true), ("COMPLETING", false), ("?", false)]
        {
            assert_eq!(JobState::only(state).has_ended(), ended, "{state}");
        }
    }
}
