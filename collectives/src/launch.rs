//! What the launcher says about the world, to be compared with what MPI says.
//!
//! A program that MPI does not recognise as one of several ranks starts as a world of its own, and N
//! such worlds train N times the same thing without a word. The launcher's variables tell.

/// The number of ranks that the launcher meant to start, and how we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Variable that says it.
    pub variable: &'static str,
    /// Number of ranks; a lower bound where the variable tells only a rank.
    pub size: usize,
    /// What to do if MPI disagrees.
    pub hint: &'static str,
}

const MPIRUN_HINT: &str = "start the program with the mpirun of the MPI library it was built with, or unset the variable to run on one rank";
const SRUN_HINT: &str = "start it with `srun --mpi=pmix` (or mpirun inside the allocation); to run on one rank, ask Slurm for one task";

/// Reads the size of the world from the variables of Open MPI, PMI, `PMIx` and Slurm.
///
/// `get` looks a variable up; pass `|name| std::env::var(name).ok()`. Slurm's variables count only
/// where mpirun's are absent: mpirun's helper on other nodes leaves its own task count there.
pub fn expected_world(get: impl Fn(&str) -> Option<String>) -> Option<Expectation> {
    let number = |name: &str| get(name)?.trim().parse::<usize>().ok();
    for variable in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"] {
        if let Some(size) = number(variable) {
            return Some(Expectation { variable, size, hint: MPIRUN_HINT });
        }
    }
    let slurm = ["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"];
    if let Some((variable, size)) = slurm.into_iter().find_map(|name| Some((name, number(name)?))) {
        return Some(Expectation { variable, size, hint: SRUN_HINT });
    }
    let lower_bound = number("PMIX_RANK")? + 1;
    Some(Expectation { variable: "PMIX_RANK", size: lower_bound, hint: MPIRUN_HINT })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expect(variables: &[(&str, &str)]) -> Option<(&'static str, usize)> {
        let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        expected_world(get).map(|e| (e.variable, e.size))
    }

    #[test]
    fn mpirun_wins_over_slurm() {
        let variables = [("SLURM_NTASKS", "1"), ("OMPI_COMM_WORLD_SIZE", "4"), ("PMIX_RANK", "2")];
        assert_eq!(expect(&variables), Some(("OMPI_COMM_WORLD_SIZE", 4)));
    }

    #[test]
    fn a_step_has_its_own_task_count() {
        let variables = [("SLURM_NTASKS", "8"), ("SLURM_STEP_NUM_TASKS", "2")];
        assert_eq!(expect(&variables), Some(("SLURM_STEP_NUM_TASKS", 2)));
    }

    #[test]
    fn a_pmix_rank_is_a_lower_bound() {
        assert_eq!(expect(&[("PMIX_RANK", "3")]), Some(("PMIX_RANK", 4)));
    }

    #[test]
    fn nothing_is_said_without_a_launcher() {
        assert_eq!(expect(&[("HOME", "/root"), ("SLURM_NTASKS", "")]), None);
    }
}
