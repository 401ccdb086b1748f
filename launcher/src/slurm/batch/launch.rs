//! The command that starts the ranks of a job: srun if it can start MPI ranks, else mpirun; the trainer from the file
//! system or from a container image.

use super::allocation::Allocation;
use crate::run::{on_path, set_grace, trainer};
use crate::slurm::SlurmError;
use protocol::environment;
use protocol::terminal::say;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

/// Seconds between TERM and KILL when Slurm ends a job. The default of mpirun is one second.
const GRACE_SECONDS: &str = "10";

/// The command that starts the ranks of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// `srun` or `mpirun`.
    pub program: &'static str,
    /// Options of the launcher, then the path of the trainer.
    words: Vec<OsString>,
    /// Number of earlier attempts, for the trainer.
    restarts: u32,
}

impl Launch {
    /// Chooses the launcher and its options, and notes what the user may not expect.
    pub fn choose(allocation: &Allocation) -> Result<Self, SlurmError> {
        let (program, options) = if srun_knows_pmix() {
            if let Some((ranks, cpus)) = crowd(allocation) {
                say(format_args!(
                    "lift: note: {ranks} ranks share the {cpus} CPUs that the job has on a node\nhint: ask for more with --cpus-per-task"
                ));
            }
            ("srun", srun(allocation))
        } else {
            if on_path("mpirun").is_none() {
                return Err(SlurmError::InvalidArguments(
                    "srun --mpi=list names no pmix, and there is no mpirun on PATH\nhint: load your MPI module before sbatch".to_owned(),
                ));
            }
            say("lift: note: srun --mpi=list names no pmix here; starting the ranks with mpirun");
            ("mpirun", mpirun(allocation))
        };
        let mut words: Vec<OsString> = options.into_iter().map(OsString::from).collect();
        words.extend(trainer_command(allocation)?);
        Ok(Self { program, words, restarts: allocation.restarts })
    }

    /// The command with these trainer arguments.
    pub fn command(&self, arguments: &[OsString]) -> Command {
        let mut command = Command::new(self.program);
        command.args(&self.words).args(arguments).stdin(Stdio::null());
        command.env(environment::RESTART_COUNT, self.restarts.to_string());
        if self.program == "mpirun" {
            set_grace(&mut command, GRACE_SECONDS);
        }
        command
    }

    /// Runs one empty job step per earlier attempt. A node failure leaves the `PMIx` folder of its step behind, and a
    /// step with the same number cannot start there; Slurm counts steps from 0 again after a requeue.
    pub fn pass_step_numbers(&self) {
        if self.program != "srun" {
            return;
        }
        for _ in 0..self.restarts {
            // A failed step uses up its number, too, and the step of the ranks reports the cause.
            let _ = Command::new("srun")
                .args(["--mpi=none", "--nodes=1", "--ntasks=1", "true"])
                .stdin(Stdio::null())
                .status();
        }
    }
}

fn srun_knows_pmix() -> bool {
    let listed = Command::new("srun").arg("--mpi=list").stdin(Stdio::null()).output();
    listed.is_ok_and(|listed| {
        [listed.stdout, listed.stderr].iter().any(|text| String::from_utf8_lossy(text).contains("pmix"))
    })
}

/// Ranks and CPUs of a node, if there are fewer CPUs than ranks.
fn crowd(allocation: &Allocation) -> Option<(u32, u32)> {
    let ranks = allocation.ranks_per_node?;
    (allocation.cpus_per_rank.is_none() && allocation.cpus < ranks).then_some((ranks, allocation.cpus))
}

fn srun(allocation: &Allocation) -> Vec<String> {
    let mut options = vec![
        format!("--nodes={}", allocation.nodes),
        format!("--ntasks={}", allocation.ranks),
        "--mpi=pmix".to_owned(),
        "--kill-on-bad-exit=1".to_owned(),
    ];
    if let Some(ranks) = allocation.ranks_per_node {
        options.push(format!("--ntasks-per-node={ranks}"));
        options.push(match allocation.cpus_per_rank {
            _ if crowd(allocation).is_some() => "--overcommit".to_owned(),
            Some(cpus) => format!("--cpus-per-task={cpus}"),
            None => format!("--cpus-per-task={}", allocation.cpus / ranks),
        });
    }
    if allocation.gpus > 0 {
        // Each rank sees all GPUs of its node and uses the one with its local rank: NCCL needs access to its peers.
        options.push("--gpu-bind=none".to_owned());
    }
    options
}

fn mpirun(allocation: &Allocation) -> Vec<String> {
    let mut options = ["-n", &allocation.ranks.to_string(), "--bind-to", "none"].map(str::to_owned).to_vec();
    if let Some(ranks) = allocation.ranks_per_node {
        options.extend(["--map-by".to_owned(), format!("ppr:{ranks}:node")]);
    }
    options
}

fn trainer_command(allocation: &Allocation) -> Result<Vec<OsString>, SlurmError> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let Some(image) = named(environment::CONTAINER) else { return Ok(vec![trainer()?.into()]) };
    if !Path::new(&image).exists() && !image.to_string_lossy().contains("://") {
        return Err(SlurmError::InvalidArguments(format!(
            "the image {} does not exist\nhint: set {}",
            image.display(),
            environment::CONTAINER
        )));
    }
    let apptainer = on_path("apptainer").or_else(|| on_path("singularity")).ok_or_else(|| {
        SlurmError::InvalidArguments(
            "neither apptainer nor singularity is on PATH\nhint: load its module before sbatch".to_owned(),
        )
    })?;
    let here = protocol::current_folder()?;
    let mut words: Vec<OsString> = vec![apptainer.into(), "exec".into()];
    words.extend(["--bind".into(), here.clone().into(), "--pwd".into(), here.into()]);
    if allocation.gpus > 0 {
        words.push("--nv".into());
    }
    words.extend([image, named(environment::TRAINER).unwrap_or_else(|| "lift-trainer".into())]);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::super::allocation::tests::allocation;
    use super::*;

    fn srun_of(variables: &[(&str, &str)]) -> String {
        srun(&allocation(variables).unwrap()).join(" ")
    }

    #[test]
    fn srun_starts_one_rank_per_gpu_and_binds_none() {
        let job = [
            ("SLURM_JOB_NUM_NODES", "2"),
            ("SLURM_GPUS_ON_NODE", "4"),
            ("SLURM_JOB_CPUS_PER_NODE", "18(x2)"),
        ];
        assert_eq!(
            srun_of(&job),
            "--nodes=2 --ntasks=8 --mpi=pmix --kill-on-bad-exit=1 --ntasks-per-node=4 --cpus-per-task=4 --gpu-bind=none"
        );
    }

    #[test]
    fn srun_shares_cpus_where_they_are_too_few_and_keeps_what_was_asked_for() {
        let crowd = [("SLURM_NTASKS_PER_NODE", "4"), ("SLURM_JOB_CPUS_PER_NODE", "2")];
        assert!(srun_of(&crowd).ends_with(" --ntasks-per-node=4 --overcommit"));
        let asked = [("SLURM_NTASKS_PER_NODE", "2"), ("SLURM_CPUS_PER_TASK", "3")];
        assert!(srun_of(&asked).ends_with(" --ntasks-per-node=2 --cpus-per-task=3"));
        assert_eq!(srun_of(&[("SLURM_NTASKS", "3")]), "--nodes=1 --ntasks=3 --mpi=pmix --kill-on-bad-exit=1");
    }

    #[test]
    fn mpirun_spreads_ranks_over_the_nodes() {
        let job = allocation(&[("SLURM_JOB_NUM_NODES", "2"), ("LIFT_RANKS_PER_NODE", "2")]).unwrap();
        assert_eq!(mpirun(&job).join(" "), "-n 4 --bind-to none --map-by ppr:2:node");
    }
}
