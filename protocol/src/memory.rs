//! Memory of this machine, and the limit of the cgroup.

use procfs::process::Process;
use procfs::{Current, Meminfo, ProcessCGroups};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Memory in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(clippy::struct_field_names, reason = "the unit is part of the name of a JSON field")]
pub struct MemoryFacts {
    /// Memory of the machine.
    pub total_bytes: Option<u64>,
    /// Memory that programs can still use.
    pub available_bytes: Option<u64>,
    /// Limit of the cgroup; none if it sets none.
    pub limit_bytes: Option<u64>,
    /// Memory that the cgroup uses of its limit.
    pub used_of_limit_bytes: Option<u64>,
}

impl MemoryFacts {
    /// What a run can use: the available memory, or what is left of the limit if that is less.
    #[must_use]
    pub fn usable_bytes(&self) -> Option<u64> {
        let left = self.limit_bytes.map(|limit| limit.saturating_sub(self.used_of_limit_bytes.unwrap_or(0)));
        [self.available_bytes, left].into_iter().flatten().min()
    }
}

/// Reads them from the kernel.
#[must_use]
pub fn look() -> MemoryFacts {
    let info = Meminfo::current().ok();
    let total_bytes = info.as_ref().map(|info| info.mem_total);
    let groups = Process::myself().and_then(|own| own.cgroups()).map(folders).unwrap_or_default();
    let limits = groups.iter().flat_map(MemoryGroup::limits);
    // Version 1 writes an absurd number for no limit.
    let real = limits.filter(|(limit, _)| total_bytes.is_none_or(|total| *limit < total));
    let limit = real.min_by_key(|(limit, used)| limit.saturating_sub(*used));
    MemoryFacts {
        total_bytes,
        available_bytes: info.and_then(|info| info.mem_available),
        limit_bytes: limit.map(|(limit, _)| limit),
        used_of_limit_bytes: limit.map(|(_, used)| used),
    }
}

/// A folder of a cgroup, and the names of its files.
#[derive(Debug, PartialEq, Eq)]
struct MemoryGroup {
    mount: PathBuf,
    path: PathBuf,
    limit: &'static str,
    used: &'static str,
}

impl MemoryGroup {
    /// Limit and use of the group and of those that contain it. Inside a container the path of the group may lead
    /// nowhere; its own limit is then that of the mount.
    fn limits(&self) -> Vec<(u64, u64)> {
        let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let folders = self.path.ancestors().map(|path| self.mount.join(path));
        let read = |folder: PathBuf| {
            Some((number(folder.join(self.limit))?, number(folder.join(self.used)).unwrap_or(0)))
        };
        folders.filter_map(read).collect()
    }
}

/// The groups of this process that may limit memory: version 2, and version 1.
fn folders(groups: ProcessCGroups) -> Vec<MemoryGroup> {
    let relative = |path: &str| Path::new(path.trim_start_matches('/')).to_owned();
    let known = groups.into_iter().filter_map(|group| {
        let path = relative(&group.pathname);
        if group.controllers.iter().any(|name| name == "memory") {
            let (limit, used) = ("memory.limit_in_bytes", "memory.usage_in_bytes");
            return Some(MemoryGroup { mount: Path::new(CGROUPS).join("memory"), path, limit, used });
        }
        let (limit, used) = ("memory.max", "memory.current");
        (group.hierarchy == 0).then(|| MemoryGroup { mount: CGROUPS.into(), path, limit, used })
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        let facts = look();
        assert!(facts.usable_bytes().unwrap() <= facts.total_bytes.unwrap(), "{facts:?}");
    }

    #[test]
    fn the_narrowest_limit_counts_also_that_of_a_parent() {
        let mount = tempfile::tempdir().unwrap();
        let step = mount.path().join("job/step");
        std::fs::create_dir_all(&step).unwrap();
        std::fs::write(mount.path().join("job/memory.max"), "1000\n").unwrap();
        std::fs::write(mount.path().join("job/memory.current"), "600\n").unwrap();
        std::fs::write(step.join("memory.max"), "max\n").unwrap();
        let group = MemoryGroup {
            mount: mount.path().to_owned(),
            path: "job/step".into(),
            limit: "memory.max",
            used: "memory.current",
        };
        assert_eq!(group.limits(), [(1000, 600)]);
        let facts = MemoryFacts {
            total_bytes: Some(9000),
            available_bytes: Some(8000),
            limit_bytes: Some(1000),
            used_of_limit_bytes: Some(600),
        };
        assert_eq!(facts.usable_bytes(), Some(400));
    }

    #[test]
    fn both_versions_of_cgroups_are_known() {
        use procfs::FromRead;
        let text = "4:memory:/slurm/job_7\n3:cpuset:/\n0::/user.slice\n";
        let found = folders(ProcessCGroups::from_read(text.as_bytes()).unwrap());
        let paths: Vec<_> = found.iter().map(|group| group.mount.join(&group.path)).collect();
        assert_eq!(
            paths,
            [PathBuf::from("/sys/fs/cgroup/memory/slurm/job_7"), PathBuf::from("/sys/fs/cgroup/user.slice")]
        );
    }
}
