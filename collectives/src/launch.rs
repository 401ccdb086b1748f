//! The world size according to the launcher, for comparison with MPI.
//!
//! A process that MPI does not recognise as one of several ranks starts as a separate MPI world, and N such worlds
//! silently train the same model N times. The environment variables of the launcher reveal this.

/// The number of ranks according to the launcher, and the variable that contains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedWorld {
    /// Environment variable.
    pub variable: &'static str,
    /// Number of ranks; a lower bound if the variable contains only a rank.
    pub size: usize,
    /// The remedy if MPI disagrees.
    pub hint: &'static str,
}

const MPIRUN_HINT: &str = "start the program with the mpirun of the MPI library it was built with, or unset the variable to run on one rank";
const SRUN_HINT: &str = "start it with `srun --mpi=pmix` (or mpirun inside the allocation); to run on one rank, ask Slurm for one task";
const WORKERS_HINT: &str = "this launcher starts no MPI ranks, so start the program with `lift run` or mpirun instead, or unset the variable to run on one rank";

/// Variables with the number of ranks: mpirun of Open MPI; MPICH, Intel MPI and HPE's PALS (PMI), also
/// `srun --mpi=pmi2`; MVAPICH; jsrun; Flux.
const RANKS: [&str; 6] = [
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "MVP_COMM_WORLD_SIZE",
    "JSM_NAMESPACE_SIZE",
    "FLUX_JOB_SIZE",
];

/// Variables with the number of Slurm tasks: of the step, then of the job.
const TASKS: [&str; 3] = ["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS"];

/// Variables with the number of ranks on this host, a lower bound of the world size.
const LOCAL_RANKS: [&str; 3] = ["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "PALS_LOCAL_SIZE"];

/// Variables with the rank of this process, counted from 0: the world size is larger.
const OWN_RANK: [&str; 7] = [
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "PALS_RANKID",
    "JSM_NAMESPACE_RANK",
    "FLUX_TASK_RANK",
    "ALPS_APP_PE",
    "PMIX_RANK",
];

/// Variables with the number of workers and with the worker's rank, of launchers without MPI: torchrun, accelerate and
/// deepspeed; horovodrun. Both are required, because the number alone is often exported for an entire job.
const WORKERS: [(&str, &str); 2] = [("WORLD_SIZE", "RANK"), ("HOROVOD_SIZE", "HOROVOD_RANK")];

/// Reads the world size from the environment variables of launchers and of Slurm.
///
/// `get` looks up a variable; pass `|name| std::env::var(name).ok()`. Slurm's variables count only if those of mpirun
/// are absent, because the helper of mpirun on other nodes sets its own task count. Variables of launchers without MPI
/// are read in addition, because the only task of mpirun or Slurm may be torchrun.
pub fn expected_world(get: impl Fn(&str) -> Option<String>) -> Option<ExpectedWorld> {
    let number = |name: &str| get(name)?.trim().parse::<usize>().ok();
    let expected_from = |variable, hint| Some(ExpectedWorld { variable, size: number(variable)?, hint });
    let counted = || RANKS.into_iter().find_map(|name| expected_from(name, MPIRUN_HINT));
    let tasks = || TASKS.into_iter().find_map(|name| expected_from(name, SRUN_HINT));
    let at_least = || {
        let local = LOCAL_RANKS.into_iter().filter_map(|name| expected_from(name, MPIRUN_HINT));
        let own = OWN_RANK.into_iter().filter_map(|name| expected_from(name, MPIRUN_HINT));
        let own = own.map(|rank| ExpectedWorld { size: rank.size.saturating_add(1), ..rank });
        own.chain(local).max_by_key(|expected| expected.size)
    };
    let worker =
        |(size, rank): (&'static str, &str)| number(rank).and_then(|_| expected_from(size, WORKERS_HINT));
    let ranks = counted().or_else(tasks).or_else(at_least);
    // `max_by_key` returns the last of equal values.
    WORKERS.into_iter().filter_map(worker).chain(ranks).max_by_key(|expected| expected.size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expect(variables: &[(&str, &str)]) -> Option<(&'static str, usize)> {
        let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        expected_world(get).map(|e| (e.variable, e.size))
    }

    #[test]
    fn variables_of_mpirun_take_precedence_over_slurm() {
        let variables = [("SLURM_NTASKS", "1"), ("OMPI_COMM_WORLD_SIZE", "4"), ("PMIX_RANK", "2")];
        assert_eq!(expect(&variables), Some(("OMPI_COMM_WORLD_SIZE", 4)));
    }

    #[test]
    fn a_step_has_its_own_task_count() {
        let variables = [("SLURM_NTASKS", "8"), ("SLURM_STEP_NUM_TASKS", "2")];
        assert_eq!(expect(&variables), Some(("SLURM_STEP_NUM_TASKS", 2)));
    }

    #[test]
    fn the_variables_of_each_launcher_give_the_world_size() {
        for (variables, expected) in [
            (&[("JSM_NAMESPACE_SIZE", "4"), ("JSM_NAMESPACE_RANK", "1")][..], ("JSM_NAMESPACE_SIZE", 4)),
            (&[("FLUX_JOB_SIZE", "4"), ("FLUX_TASK_RANK", "0")], ("FLUX_JOB_SIZE", 4)),
            (&[("PALS_RANKID", "0"), ("PALS_LOCAL_SIZE", "4")], ("PALS_LOCAL_SIZE", 4)),
            (&[("PALS_RANKID", "5")], ("PALS_RANKID", 6)),
            (&[("MPI_LOCALNRANKS", "4"), ("MPI_LOCALRANKID", "1")], ("MPI_LOCALNRANKS", 4)),
            (&[("MVP_COMM_WORLD_SIZE", "4")], ("MVP_COMM_WORLD_SIZE", 4)),
            (&[("ALPS_APP_PE", "3")], ("ALPS_APP_PE", 4)),
            (&[("SLURM_NPROCS", "4")], ("SLURM_NPROCS", 4)),
            (&[("WORLD_SIZE", "4"), ("RANK", "0"), ("LOCAL_RANK", "0")], ("WORLD_SIZE", 4)),
            (&[("HOROVOD_SIZE", "4"), ("HOROVOD_RANK", "0")], ("HOROVOD_SIZE", 4)),
        ] {
            assert_eq!(expect(variables), Some(expected), "{variables:?}");
        }
    }

    #[test]
    fn torchrun_under_mpirun_or_slurm_gives_the_larger_world_size() {
        let torchrun = |size, other| expect(&[("WORLD_SIZE", size), ("RANK", "0"), other]);
        assert_eq!(torchrun("4", ("OMPI_COMM_WORLD_SIZE", "1")), Some(("WORLD_SIZE", 4)));
        assert_eq!(torchrun("4", ("SLURM_STEP_NUM_TASKS", "1")), Some(("WORLD_SIZE", 4)));
        assert_eq!(torchrun("1", ("SLURM_STEP_NUM_TASKS", "4")), Some(("SLURM_STEP_NUM_TASKS", 4)));
        assert_eq!(torchrun("1", ("HOME", "/root")), Some(("WORLD_SIZE", 1)));
    }

    #[test]
    fn a_world_size_without_a_rank_is_ignored() {
        assert_eq!(expect(&[("WORLD_SIZE", "4"), ("MASTER_ADDR", "node1")]), None);
    }

    #[test]
    fn a_pmix_rank_is_a_lower_bound() {
        assert_eq!(expect(&[("PMIX_RANK", "3")]), Some(("PMIX_RANK", 4)));
    }

    #[test]
    fn without_a_launcher_there_is_no_expectation() {
        assert_eq!(expect(&[("HOME", "/root"), ("SLURM_NTASKS", "")]), None);
    }
}
