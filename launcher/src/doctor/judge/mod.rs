//! Judges the facts. It asks nothing, so it can be tested with facts of machines that are not here.

mod gpus;
mod machine;
mod programs;
mod slurm;
mod storage;

use super::facts::Facts;
use serde::Serialize;

/// How good a part of the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is wrong.
    Ok,
    /// Training starts, but not with everything, or not as fast as it could.
    Warning,
    /// Training cannot start.
    Error,
}

impl Level {
    /// The word for people and for scripts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What was found about one part of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoctorFinding {
    /// The part, such as `mpi`.
    pub area: &'static str,
    /// How good it is.
    pub level: Level,
    /// One sentence.
    pub text: String,
    /// The remedy of a warning or an error.
    pub hint: Option<String>,
}

impl DoctorFinding {
    fn ok(area: &'static str, text: impl Into<String>) -> Self {
        Self { area, level: Level::Ok, text: text.into(), hint: None }
    }

    fn warning(area: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { area, level: Level::Warning, text: text.into(), hint: Some(hint.into()) }
    }

    fn error(area: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { area, level: Level::Error, text: text.into(), hint: Some(hint.into()) }
    }
}

/// The findings, in the order in which they are printed.
pub(super) fn judge(facts: &Facts) -> Vec<DoctorFinding> {
    let mut findings = vec![machine::cores(&facts.cores), machine::memory(&facts.memory)];
    findings.extend(gpus::gpus(facts));
    findings.extend(gpus::driver(facts));
    findings.extend(programs::trainer(&facts.trainer));
    findings.extend(programs::libtorch(facts));
    findings.push(gpus::nccl(facts));
    findings.push(programs::mpi(facts));
    findings.push(slurm::slurm(&facts.slurm));
    findings.extend(slurm::pmix(facts));
    findings.push(machine::shared_memory(&facts.shared_memory));
    findings.extend(storage::output(&facts.output));
    findings.extend(facts.data.iter().map(storage::data));
    findings.extend(machine::limits(&facts.limits));
    findings
}

/// Findings and facts of tests.
#[cfg(test)]
mod tests {
    use super::*;

    /// `area level`, for comparisons.
    pub(super) fn levels<'a>(findings: impl IntoIterator<Item = &'a DoctorFinding>) -> Vec<String> {
        findings.into_iter().map(|one| format!("{} {}", one.area, one.level.word())).collect()
    }

    #[test]
    fn only_what_is_not_ok_has_a_remedy_and_all_of_that_has_one() {
        // Facts about which nothing is known.
        for finding in judge(&Facts::default()) {
            assert_eq!(finding.hint.is_some(), finding.level > Level::Ok, "{finding:?}");
        }
    }
}
