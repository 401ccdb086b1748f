//! Limits of a process, and the fabrics that need one of them.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use serde::Serialize;

/// A limit; null is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ProcessLimit {
    /// The limit that applies.
    pub soft: Option<u64>,
    /// The limit up to which a process may raise it.
    pub hard: Option<u64>,
}

/// Limits of this process, which the ranks inherit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LimitFacts {
    /// Open files.
    pub open_files: Option<ProcessLimit>,
    /// Locked memory in bytes.
    pub locked_memory_bytes: Option<ProcessLimit>,
    /// Size of a core dump in bytes.
    pub core_bytes: Option<ProcessLimit>,
    /// Processes and threads of the user.
    pub processes: Option<ProcessLimit>,
    /// Adapters with remote memory access, such as `mlx5_0`, which need locked memory.
    pub fabrics: Vec<String>,
}

pub(super) fn look() -> LimitFacts {
    LimitFacts {
        open_files: limit(Resource::RLIMIT_NOFILE),
        locked_memory_bytes: limit(Resource::RLIMIT_MEMLOCK),
        core_bytes: limit(Resource::RLIMIT_CORE),
        processes: limit(Resource::RLIMIT_NPROC),
        fabrics: fabrics(),
    }
}

fn limit(resource: Resource) -> Option<ProcessLimit> {
    let finite = |limit| (limit != RLIM_INFINITY).then_some(limit);
    getrlimit(resource).ok().map(|(soft, hard)| ProcessLimit { soft: finite(soft), hard: finite(hard) })
}

fn fabrics() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/infiniband").into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
