//! Cores of this machine, those that this process may use, and their instructions.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use procfs::{CpuInfo, Current};
use serde::Serialize;
use std::num::NonZeroUsize;

/// Instruction sets that matter for the speed of libtorch, as the kernel and as people name them.
const INSTRUCTIONS: [(&str, &str); 8] = [
    ("avx2", "AVX2"),
    ("avx512f", "AVX-512"),
    ("avx512_bf16", "AVX512-BF16"),
    ("amx_tile", "AMX"),
    ("amx_bf16", "AMX-BF16"),
    ("asimd", "NEON"),
    ("sve", "SVE"),
    ("bf16", "BF16"),
];

/// Cores and their instructions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CoreFacts {
    /// Online cores of the machine.
    pub present: Option<usize>,
    /// Cores that the affinity and the cpuset allow.
    pub allowed: Option<usize>,
    /// Cores that the CPU quota of the cgroup leaves of them.
    pub usable: Option<usize>,
    /// Name of the processor.
    pub model: Option<String>,
    /// Instruction sets that matter for libtorch.
    pub instructions: Vec<String>,
    /// Architecture of this program, such as `x86_64`.
    pub architecture: String,
}

pub(super) fn look() -> CoreFacts {
    let info = CpuInfo::current().ok();
    let flags = info.as_ref().map(flags).unwrap_or_default();
    let known = INSTRUCTIONS.iter().filter(|(flag, _)| flags.iter().any(|own| own == flag));
    CoreFacts {
        present: info.as_ref().map(CpuInfo::num_cores),
        allowed: allowed(),
        usable: std::thread::available_parallelism().ok().map(NonZeroUsize::get),
        model: info.and_then(|info| info.model_name(0).map(str::to_owned)),
        instructions: known.map(|(_, name)| (*name).to_owned()).collect(),
        architecture: std::env::consts::ARCH.to_owned(),
    }
}

/// The kernel's names of the instructions: `flags` on x86, `Features` on Arm.
fn flags(info: &CpuInfo) -> Vec<String> {
    let listed = ["flags", "Features"].into_iter().find_map(|name| info.get_field(0, name));
    listed.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn allowed() -> Option<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).ok()?;
    Some((0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores() {
        let facts = look();
        let (present, allowed, usable) =
            (facts.present.unwrap(), facts.allowed.unwrap(), facts.usable.unwrap());
        assert!(1 <= usable && usable <= allowed && allowed <= present, "{facts:?}");
        assert!(facts.instructions.iter().all(|name| !name.is_empty()));
    }
}
