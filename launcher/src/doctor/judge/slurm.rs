//! Slurm, and `PMIx`, by which it starts MPI ranks.

use super::DoctorFinding;
use crate::doctor::facts::Facts;
use crate::doctor::slurm::{JobFacts, SlurmFacts};
use crate::doctor::units::count;

pub(super) fn slurm(facts: &SlurmFacts) -> DoctorFinding {
    const AREA: &str = "slurm";
    let job = facts.job.as_ref().map(|job| format!("; inside {}", described(job))).unwrap_or_default();
    if !facts.is_installed() {
        return DoctorFinding::ok(AREA, format!("not installed; only `lift submit` needs it{job}"));
    }
    let missing = facts.missing();
    if !missing.is_empty() {
        return DoctorFinding::warning(
            AREA,
            format!("{} not on PATH, so `lift submit` does not work{job}", listed(&missing)),
            "load the module of Slurm, or install its client programs (Debian: slurm-client)",
        );
    }
    let version = facts.version.as_deref().unwrap_or("installed");
    if facts.controller == Some(false) {
        let said = facts.controller_error.as_ref().map(|said| format!(": {said}")).unwrap_or_default();
        return DoctorFinding::warning(
            AREA,
            format!("{version}, but no controller answers{said}{job}"),
            "only `lift submit` needs it: run it on a login node of the cluster, and see what `scontrol ping` says",
        );
    }
    DoctorFinding::ok(AREA, format!("{version}, the controller answers{job}"))
}

fn listed(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

fn described(job: &JobFacts) -> String {
    let number = |number: Option<u32>, what| number.map(|number| count(number as usize, what));
    let parts = [number(job.nodes, "node"), number(job.tasks, "task"), number(job.gpus, "GPU on this node")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        format!("job {}", job.id)
    } else {
        format!("job {} ({})", job.id, parts.join(", "))
    }
}

/// Nothing without Slurm, because `mpirun` brings its own PMIx, and nothing without a controller, because without a
/// configuration `srun` does not tell.
pub(super) fn pmix(facts: &Facts) -> Option<DoctorFinding> {
    const AREA: &str = "pmix";
    const WITHOUT: &str = "`lift job` starts ranks with `mpirun` in place of `srun`";
    if !facts.slurm.is_installed() {
        return None;
    }
    if facts.slurm.mpi_types.is_none() && facts.slurm.controller == Some(false) {
        return None;
    }
    let listed =
        facts.slurm.mpi_types.as_ref().map(|types| types.iter().any(|name| name.starts_with("pmix")));
    Some(match (listed, facts.mpi.pmix) {
        (Some(true), Some(false)) => DoctorFinding::warning(
            AREA,
            "`srun --mpi=list` names it, but this Open MPI is built without it: ranks of `srun` would be runs of their own",
            "load an Open MPI that is built with PMIx (`ompi_info` names a component `pmix`)",
        ),
        (Some(true), Some(true)) => {
            DoctorFinding::ok(AREA, "`srun --mpi=list` names it, and Open MPI is built with it")
        }
        (Some(true), None) => DoctorFinding::ok(AREA, "`srun --mpi=list` names it"),
        (Some(false), _) => DoctorFinding::warning(
            AREA,
            format!("`srun --mpi=list` does not name it: {WITHOUT}"),
            "ask for Slurm's PMIx plugin (Debian: slurm-wlm-basic-plugins, and libpmix-dev for its library)",
        ),
        (None, _) => DoctorFinding::warning(
            AREA,
            format!("`srun --mpi=list` does not answer: {WITHOUT} if it names no pmix"),
            "run lift where Slurm is configured, and see what `srun --mpi=list` says",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::levels;
    use super::*;
    use std::path::PathBuf;

    fn installed(programs: &[&str]) -> SlurmFacts {
        let programs = programs.iter().map(|name| ((*name).to_owned(), PathBuf::from("/s").join(name)));
        SlurmFacts {
            programs: programs.collect(),
            version: Some("22.05.8".into()),
            controller: Some(true),
            mpi_types: Some(vec!["none".into(), "pmix_v4".into()]),
            ..SlurmFacts::default()
        }
    }

    #[test]
    fn slurm_is_needed_only_to_submit() {
        assert_eq!(levels([&slurm(&SlurmFacts::default())]), ["slurm ok"]);
        let all = installed(&["sbatch", "srun", "scontrol"]);
        assert_eq!(slurm(&all), DoctorFinding::ok("slurm", "22.05.8, the controller answers"));
        let found = slurm(&installed(&["sinfo", "srun"]));
        assert_eq!(found.text, "sbatch, scontrol are not on PATH, so `lift submit` does not work");
        let error = Some("Slurmctld(primary) at c is DOWN".into());
        let down = SlurmFacts { controller: Some(false), controller_error: error, ..all.clone() };
        assert_eq!(slurm(&down).text, "22.05.8, but no controller answers: Slurmctld(primary) at c is DOWN");
        let job = JobFacts { id: "7".into(), nodes: Some(2), tasks: Some(1), gpus: None };
        let inside = SlurmFacts { job: Some(job), ..all };
        assert_eq!(slurm(&inside).text, "22.05.8, the controller answers; inside job 7 (2 nodes, 1 task)");
    }

    #[test]
    fn pmix_has_to_be_in_slurm_and_in_open_mpi() {
        let mut facts = Facts { slurm: installed(&["srun"]), ..Facts::default() };
        let mut levels_with = |types: Option<&[&str]>, open_mpi| {
            facts.slurm.mpi_types = types.map(|types| types.iter().map(|name| (*name).to_owned()).collect());
            facts.mpi.pmix = open_mpi;
            levels(&pmix(&facts))
        };
        assert_eq!(levels_with(Some(&["none", "pmix"]), Some(true)), ["pmix ok"]);
        assert_eq!(levels_with(Some(&["none", "pmix"]), None), ["pmix ok"]);
        assert_eq!(levels_with(Some(&["none", "pmix"]), Some(false)), ["pmix warning"]);
        assert_eq!(levels_with(Some(&["none", "pmi2"]), Some(true)), ["pmix warning"]);
        assert_eq!(levels_with(None, Some(true)), ["pmix warning"]);
        facts.slurm.mpi_types = None;
        facts.slurm.controller = Some(false);
        assert_eq!(pmix(&facts), None);
        facts.slurm = SlurmFacts::default();
        assert_eq!(pmix(&facts), None);
    }
}
