//! The resources of a batch job, from environment variables of Slurm and of the user.

use crate::limits;
use crate::slurm::SlurmError;
use protocol::environment;
use std::str::FromStr;

/// Default limit of restarts.
const RESTARTS: u32 = 10;

/// The job that this process runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// Job number. One task of an array may have the number of the entire array.
    pub job: String,
    /// The number of the array and of the task.
    pub task: Option<(String, String)>,
    /// Number of earlier starts of the job.
    pub restarts: u32,
    /// Maximum number of restarts.
    pub most_restarts: u32,
    /// Number of nodes.
    pub nodes: u32,
    /// Number of ranks on all nodes.
    pub ranks: u32,
    /// Ranks per node, if all nodes have the same number.
    pub ranks_per_node: Option<u32>,
    /// GPUs of this node.
    pub gpus: u32,
    /// Requested CPUs per rank.
    pub cpus_per_rank: Option<u32>,
    /// Smallest number of CPUs that the job has on a node.
    pub cpus: u32,
    /// Seconds without a heartbeat after which ranks are ended.
    pub hang_seconds: Option<u64>,
}

impl Allocation {
    /// Reads the variables through `get`, which returns the value of a name.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, SlurmError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let job = get("SLURM_JOB_ID").ok_or_else(|| {
            SlurmError::InvalidArguments(
                "`lift job` runs inside a Slurm job, but SLURM_JOB_ID is not set\nhint: submit a job with `lift submit` or `sbatch slurm/lift.sbatch`"
                    .to_owned(),
            )
        })?;
        let task = get("SLURM_ARRAY_JOB_ID").zip(get("SLURM_ARRAY_TASK_ID"));
        let nodes = number(&get, "SLURM_JOB_NUM_NODES")?.or(number(&get, "SLURM_NNODES")?).unwrap_or(1);
        let tasks = number(&get, "SLURM_NTASKS")?.unwrap_or(nodes);
        let gpus = number(&get, "SLURM_GPUS_ON_NODE")?.unwrap_or(0);
        let named = number(&get, environment::RANKS_PER_NODE)?.or(number(&get, "SLURM_NTASKS_PER_NODE")?);
        // One rank per GPU, unless the job sets its number of tasks.
        let ranks_per_node: Option<u32> = named.or((gpus > 0 && tasks == nodes).then_some(gpus));
        if ranks_per_node.is_some_and(|ranks| ranks == 0 || ranks > limits::RANKS_OF_HOST) {
            return Err(SlurmError::InvalidArguments(format!(
                "{}={} is out of range; expected from 1 to {}",
                environment::RANKS_PER_NODE,
                ranks_per_node.unwrap_or(0),
                limits::RANKS_OF_HOST
            )));
        }
        let cpus = get("SLURM_JOB_CPUS_PER_NODE").or_else(|| get("SLURM_CPUS_ON_NODE"));
        Ok(Self {
            job,
            task,
            restarts: number(&get, "SLURM_RESTART_COUNT")?.unwrap_or(0),
            most_restarts: number(&get, environment::MAX_RESTARTS)?.unwrap_or(RESTARTS),
            nodes,
            ranks: ranks_per_node.map_or(tasks, |ranks| nodes.saturating_mul(ranks)),
            ranks_per_node,
            gpus,
            cpus_per_rank: number(&get, "SLURM_CPUS_PER_TASK")?,
            cpus: cpus.as_deref().and_then(fewest).unwrap_or(1),
            hang_seconds: number(&get, environment::HANG_SECONDS)?.filter(|seconds| *seconds > 0),
        })
    }

    /// The name with which Slurm requeues the job.
    pub fn name(&self) -> String {
        self.task.as_ref().map_or_else(|| self.job.clone(), |(array, task)| format!("{array}_{task}"))
    }
}

fn number<N: FromStr>(get: &impl Fn(&str) -> Option<String>, name: &str) -> Result<Option<N>, SlurmError> {
    let Some(text) = get(name) else { return Ok(None) };
    let parsed = text.trim().parse().map(Some);
    parsed.map_err(|_| SlurmError::InvalidArguments(format!("{name}={text} is not a whole number")))
}

/// The smallest number in a list of CPUs per node: `4(x2),8`.
fn fewest(counts: &str) -> Option<u32> {
    counts.split(',').filter_map(|count| count.split('(').next()?.trim().parse().ok()).min()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An allocation with these variables.
    pub fn allocation(variables: &[(&str, &str)]) -> Result<Allocation, String> {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned()).or((name == "SLURM_JOB_ID").then(|| "17".to_owned()))
        };
        Allocation::read(get).map_err(|error| error.to_string())
    }

    #[test]
    fn ranks_are_one_per_gpu_or_as_many_as_somebody_says() {
        for (variables, ranks, per_node) in [
            (&[][..], 1, None),
            (&[("SLURM_NTASKS", "6"), ("SLURM_JOB_NUM_NODES", "2")], 6, None),
            (&[("SLURM_JOB_NUM_NODES", "2"), ("SLURM_GPUS_ON_NODE", "4")], 8, Some(4)),
            (&[("SLURM_GPUS_ON_NODE", "4"), ("SLURM_NTASKS", "3")], 3, None),
            (&[("SLURM_NNODES", "2"), ("SLURM_NTASKS", "4"), ("SLURM_NTASKS_PER_NODE", "2")], 4, Some(2)),
            (&[("SLURM_NTASKS_PER_NODE", "2"), ("LIFT_RANKS_PER_NODE", "3")], 3, Some(3)),
        ] {
            let found = allocation(variables).unwrap();
            assert_eq!((found.ranks, found.ranks_per_node), (ranks, per_node), "{variables:?}");
        }
    }

    #[test]
    fn the_fewest_cpus_of_a_node_count() {
        assert_eq!(fewest("4(x2),8"), Some(4));
        assert_eq!(fewest("16"), Some(16));
        assert_eq!(fewest(""), None);
    }

    #[test]
    fn a_task_of_an_array_has_a_name_of_its_own() {
        assert_eq!(allocation(&[]).unwrap().name(), "17");
        let task = [("SLURM_ARRAY_JOB_ID", "16"), ("SLURM_ARRAY_TASK_ID", "3")];
        assert_eq!(allocation(&task).unwrap().name(), "16_3");
    }

    #[test]
    fn what_is_no_job_and_what_is_no_number_is_refused() {
        let message = Allocation::read(|_| None).unwrap_err().to_string();
        assert!(message.starts_with("`lift job` runs inside a Slurm job"), "{message}");
        let message = allocation(&[("LIFT_MAX_RESTARTS", "many")]).unwrap_err();
        assert_eq!(message, "LIFT_MAX_RESTARTS=many is not a whole number");
        let message = allocation(&[("LIFT_RANKS_PER_NODE", "0")]).unwrap_err();
        assert_eq!(message, "LIFT_RANKS_PER_NODE=0 is out of range; expected from 1 to 1024");
    }
}
