//! Slurm: its programs, its controller, the ways in which it starts MPI ranks, and the job around this process.

use super::child::ask;
use crate::run::on_path;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Time for each question.
const LIMIT: Duration = Duration::from_secs(3);
/// Slurm's programs that `lift` starts.
const PROGRAMS: [&str; 7] = ["sbatch", "srun", "sinfo", "squeue", "scontrol", "scancel", "sacct"];
/// Those without which no job can be submitted or run.
const NEEDED: [&str; 3] = ["sbatch", "srun", "scontrol"];

/// Slurm on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SlurmFacts {
    /// Its programs on PATH.
    pub programs: BTreeMap<String, PathBuf>,
    /// Its version.
    pub version: Option<String>,
    /// Whether a controller answers.
    pub controller: Option<bool>,
    /// What was said instead of an answer.
    pub controller_error: Option<String>,
    /// Ways in which `srun` starts MPI ranks: the values of `--mpi`.
    pub mpi_types: Option<Vec<String>>,
    /// The job around this process.
    pub job: Option<JobFacts>,
}

/// The Slurm job around this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobFacts {
    /// Its number.
    pub id: String,
    /// Its nodes.
    pub nodes: Option<u32>,
    /// Its tasks.
    pub tasks: Option<u32>,
    /// GPUs on this node.
    pub gpus: Option<u32>,
}

impl SlurmFacts {
    /// Whether any of its programs is here.
    pub(super) fn is_installed(&self) -> bool {
        !self.programs.is_empty()
    }

    /// Programs that are needed and not here.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        NEEDED.into_iter().filter(|name| !self.programs.contains_key(*name)).collect()
    }
}

pub(super) fn look() -> SlurmFacts {
    let found = PROGRAMS.into_iter().filter_map(|name| Some((name.to_owned(), on_path(name)?)));
    let programs: BTreeMap<String, PathBuf> = found.collect();
    let path = |name: &str| programs.get(name).map(PathBuf::as_path);
    let (version, answer, mpi_types) = std::thread::scope(|scope| {
        let version = scope.spawn(|| version(path("sinfo").or(path("srun"))?));
        let controller = scope.spawn(|| path("scontrol").map(controller));
        let mpi_types = scope.spawn(|| mpi_types(path("srun")?));
        // A thread here does not panic; if it did, its fact would be unknown.
        (version.join().ok().flatten(), controller.join().ok().flatten(), mpi_types.join().ok().flatten())
    });
    let (controller, controller_error) = answer.map_or((None, None), |(is_up, said)| (Some(is_up), said));
    SlurmFacts { version, controller, controller_error, mpi_types, job: job(), programs }
}

/// `slurm 22.05.8`, or `slurm-wlm 22.05.8`
fn version(program: &Path) -> Option<String> {
    let answer = ask(Command::new(program).arg("--version"), LIMIT);
    answer.stdout.split_whitespace().nth(1).map(str::to_owned)
}

/// `Slurmctld(primary) at host is UP`
fn controller(scontrol: &Path) -> (bool, Option<String>) {
    let answer = ask(Command::new(scontrol).arg("ping"), LIMIT);
    if answer.stdout.contains(" is UP") {
        return (true, None);
    }
    let said = answer.failure().or_else(|| answer.stdout.lines().next().map(str::to_owned));
    (false, said)
}

fn mpi_types(srun: &Path) -> Option<Vec<String>> {
    let answer = ask(Command::new(srun).arg("--mpi=list"), LIMIT);
    // Up to 21.08 the list goes to stderr.
    answer.is_success().then(|| listed(&format!("{}\n{}", answer.stdout, answer.stderr)))
}

/// `MPI plugin types are...` with one per line, or `srun: MPI types are...` with lines of `srun: pmix`; pmix may be
/// followed by `specific pmix plugin versions available: pmix_v3,pmix_v4`.
fn listed(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("srun:").trim());
    let words = lines.filter(|line| !line.contains("are...")).flat_map(|line| {
        line.rsplit(": ").next().unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty())
    });
    words.map(str::to_owned).collect()
}

fn job() -> Option<JobFacts> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let number = |name: &str| variable(name)?.parse().ok();
    Some(JobFacts {
        id: variable("SLURM_JOB_ID")?,
        nodes: number("SLURM_JOB_NUM_NODES"),
        tasks: number("SLURM_NTASKS"),
        gpus: number("SLURM_GPUS_ON_NODE"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_mpi_types_is_understood_in_both_forms() {
        let new = "MPI plugin types are...\n\tnone\n\tpmi2\n\tpmix\nspecific pmix plugin versions available: pmix_v3,pmix_v4\n";
        assert_eq!(listed(new), ["none", "pmi2", "pmix", "pmix_v3", "pmix_v4"]);
        let old = "srun: MPI types are...\nsrun: none\nsrun: pmi2\n";
        assert_eq!(listed(old), ["none", "pmi2"]);
    }
}
