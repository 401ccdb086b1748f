//! How the ranks of one host share its cores.
//!
//! `mpirun` binds each rank to one core by default, and libtorch then sees a machine of one core. Before
//! libtorch is first used, a rank widens its affinity to what the kernel allows it (the cgroup's cpuset
//! always holds) and takes its share of the cores as its number of threads.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::path::Path;

/// The cores of this process before and after, and the threads that follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreShare {
    /// Cores that the launcher had bound this process to.
    pub bound: usize,
    /// Cores that it may use now.
    pub allowed: usize,
    /// Threads for this rank: the allowed cores (or the cgroup's quota, if that is less) divided by
    /// the ranks of the host, at least one.
    pub threads: usize,
}

/// Widens a binding that `mpirun` made, and divides the cores over the ranks of this host.
///
/// A binding that Slurm made is left alone: those are the cores that the job paid for.
pub fn share_cores(local_size: usize) -> nix::Result<CoreShare> {
    let bound = count(&sched_getaffinity(Pid::from_raw(0))?);
    let by_mpirun = std::env::var_os("OMPI_COMM_WORLD_SIZE").is_some();
    if by_mpirun {
        widen()?;
    }
    let allowed = count(&sched_getaffinity(Pid::from_raw(0))?);
    let cores = cpu_quota(Path::new("/sys/fs/cgroup")).map_or(allowed, |quota| quota.min(allowed));
    // Slurm binds each task to its own cores: then nothing is left to divide.
    let sharing = if by_mpirun || !bound_by_slurm() { local_size.max(1) } else { 1 };
    Ok(CoreShare { bound, allowed, threads: (cores / sharing).max(1) })
}

fn bound_by_slurm() -> bool {
    std::env::var("SLURM_CPU_BIND_TYPE").is_ok_and(|kind| !kind.is_empty() && !kind.starts_with("none"))
}

/// Asks for every core; the kernel cuts the wish down to the cpuset of the cgroup.
fn widen() -> nix::Result<()> {
    let mut all = CpuSet::new();
    for core in 0..CpuSet::count() {
        all.set(core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &all)
}

fn count(set: &CpuSet) -> usize {
    (0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).count()
}

/// Whole cores of the CPU quota of a cgroup (version 2), rounded up; `None` without a quota.
fn cpu_quota(cgroup: &Path) -> Option<usize> {
    let text = std::fs::read_to_string(cgroup.join("cpu.max")).ok()?;
    let mut fields = text.split_whitespace();
    let quota: usize = fields.next()?.parse().ok()?;
    let period: usize = fields.next()?.parse().ok()?;
    (period > 0).then(|| quota.div_ceil(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_rounded_up_to_whole_cores() {
        let folder = std::env::temp_dir().join(format!("collectives-quota-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("cpu.max"), "250000 100000\n").unwrap();
        assert_eq!(cpu_quota(&folder), Some(3));
        std::fs::write(folder.join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(cpu_quota(&folder), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
