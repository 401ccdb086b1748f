//! Slurm's programs: what they are asked, and what they answer.

use super::SlurmError;
use std::process::{Command, Output};

/// Runs one of Slurm's programs. What it says where it refuses is handed on, with what to check.
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

/// What Slurm says of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobState {
    /// `RUNNING`, `PENDING`, ...; `gone` when Slurm has forgotten the job, `?` when it cannot be asked.
    pub(super) state: String,
    /// How often Slurm started it again.
    pub(super) restarts: u64,
}

/// Asks for a job, or a task of an array: in the queue, then in the accounts.
pub(super) fn state(job: &str) -> JobState {
    let unknown = |state: &str| JobState { state: state.to_owned(), restarts: 0 };
    match output("scontrol", &["show", "job", "--oneliner", job]) {
        Err(_) => return unknown("?"),
        Ok(output) if output.status.success() => {
            if let Some(found) = parse(&String::from_utf8_lossy(&output.stdout)) {
                return found;
            }
        }
        Ok(_) => {}
    }
    let account = ask("sacct", &["-X", "-n", "-P", "-o", "State", "-j", job], None).unwrap_or_default();
    unknown(account.lines().next().and_then(|line| line.split_whitespace().next()).unwrap_or("gone"))
}

fn parse(text: &str) -> Option<JobState> {
    let field =
        |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
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
}
