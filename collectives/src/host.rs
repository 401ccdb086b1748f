//! Divides the cores of a host among its ranks.
//!
//! `mpirun` binds each rank to one core by default, and libtorch then sees a machine with one core. Before the first
//! use of libtorch, a rank therefore widens its affinity to all allowed cores (the cpuset of the cgroup always applies)
//! and uses its share of the cores as its number of threads.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::path::Path;

/// The cores of this process before and after, and its number of threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreShare {
    /// Cores that the launcher had bound this process to.
    pub bound: usize,
    /// Cores that this process may use now.
    pub allowed: usize,
    /// Threads for this rank: the allowed cores (or the cgroup's quota, if that is less) divided by
    /// the ranks of the host, at least one.
    pub threads: usize,
}

/// Widens the default binding of `mpirun`, and divides the cores among the ranks of this host.
///
/// A binding by Slurm is not changed, because those cores are allocated to the task. Neither is a binding that the user
/// requested from `mpirun`.
pub fn share_cores(local_size: usize) -> nix::Result<CoreShare> {
    let bound = count(&sched_getaffinity(Pid::from_raw(0))?);
    let by_mpirun = std::env::var_os("OMPI_COMM_WORLD_SIZE").is_some();
    let user_bound =
        BINDING_POLICIES.iter().any(|name| std::env::var_os(name).is_some_and(|kind| kind != "none"));
    if by_mpirun && !user_bound {
        widen()?;
    }
    let allowed = count(&sched_getaffinity(Pid::from_raw(0))?);
    let cores = cpu_quota(Path::new("/sys/fs/cgroup")).map_or(allowed, |quota| quota.min(allowed));
    let ranks = if by_mpirun && user_bound {
        ranks_on(allowed, online_cores(), local_size)
    } else if by_mpirun || !bound_by_slurm() {
        local_size.max(1)
    } else {
        // Slurm binds each task to its own cores, so there is nothing to divide.
        1
    };
    Ok(CoreShare { bound, allowed, threads: (cores / ranks).max(1) })
}

/// Variables that show that the user requested a binding: Open MPI up to 4, and from 5 on.
const BINDING_POLICIES: [&str; 2] =
    ["OMPI_MCA_hwloc_base_binding_policy", "PRTE_MCA_hwloc_default_binding_policy"];

/// Ranks that share `allowed` of `all` cores, when `local_size` ranks are spread evenly over them.
fn ranks_on(allowed: usize, all: usize, local_size: usize) -> usize {
    (local_size * allowed).div_ceil(all.max(1)).max(1)
}

/// Number of online cores of the machine, from a list such as `0-3,8-11`.
fn online_cores() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<usize>().ok()?.saturating_sub(first.parse().ok()?) + 1)
    });
    ranges.sum()
}

fn bound_by_slurm() -> bool {
    std::env::var("SLURM_CPU_BIND_TYPE").is_ok_and(|kind| !kind.is_empty() && !kind.starts_with("none"))
}

/// Requests every core; the kernel limits the request to the cpuset of the cgroup.
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

/// CPU quota of a cgroup (version 2) in cores, rounded up; `None` without a quota.
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
    fn ranks_bound_to_a_processor_share_only_its_cores() {
        assert_eq!(ranks_on(32, 64, 8), 4);
        assert_eq!(ranks_on(1, 64, 8), 1);
        assert_eq!(ranks_on(64, 64, 8), 8);
        assert_eq!(ranks_on(32, 64, 1), 1);
    }

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
