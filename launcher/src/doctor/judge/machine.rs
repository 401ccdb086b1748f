//! Cores, memory, shared memory and limits.

use super::DoctorFinding;
use crate::doctor::cores::CoreFacts;
use crate::doctor::folder::FolderFacts;
use crate::doctor::limits::{LimitFacts, ProcessLimit};
use crate::doctor::units::{count, size};
use protocol::memory::MemoryFacts;

/// Memory below which a rank of the smallest model may not start.
const LEAST_MEMORY: u64 = 1 << 30;
/// Shared memory below which several ranks of a host may fail: the default of Docker is 64 MiB.
const LEAST_SHARED: u64 = 128 << 20;
/// Open files that a small run needs: libraries, loaders, and a connection to each rank.
const LEAST_FILES: u64 = 1024;

pub(super) fn cores(facts: &CoreFacts) -> DoctorFinding {
    const AREA: &str = "cores";
    let (Some(present), Some(allowed)) = (facts.present, facts.allowed) else {
        return DoctorFinding::warning(AREA, "their number is unknown", "set it with `lift run --threads`");
    };
    let usable = facts.usable.unwrap_or(allowed).min(allowed);
    let limited_by = match (usable < allowed, allowed < present) {
        (true, _) => " (limited by the CPU quota of the cgroup)",
        (_, true) => " (limited by the affinity or the cpuset)",
        _ => "",
    };
    let mut parts = vec![format!("{usable} of {present}{limited_by}")];
    parts.extend(facts.instructions.iter().cloned());
    parts.extend(facts.model.clone());
    let text = parts.join(", ");
    if facts.architecture == "x86_64" && !facts.instructions.iter().any(|name| name == "AVX2") {
        return DoctorFinding::warning(
            AREA,
            format!("{text}, without AVX2: libtorch is several times slower"),
            "in a virtual machine, pass the instructions of the host on (`-cpu host`); else use a newer processor",
        );
    }
    DoctorFinding::ok(AREA, text)
}

pub(super) fn memory(facts: &MemoryFacts) -> DoctorFinding {
    const AREA: &str = "memory";
    let (Some(total), Some(usable)) = (facts.total_bytes, facts.usable_bytes()) else {
        return DoctorFinding::warning(AREA, "its size is unknown", "see that /proc is mounted");
    };
    let limit = facts.limit_bytes.map(|limit| format!(", limited to {} by the cgroup", size(limit)));
    let text = format!("{} of {} available{}", size(usable), size(total), limit.unwrap_or_default());
    if usable < LEAST_MEMORY {
        let hint = "end other programs, ask the scheduler for more (`lift submit --mem`), or raise the limit of the container";
        return DoctorFinding::warning(
            AREA,
            format!("{text}; a rank needs {} at least", size(LEAST_MEMORY)),
            hint,
        );
    }
    DoctorFinding::ok(AREA, text)
}

pub(super) fn shared_memory(facts: &FolderFacts) -> DoctorFinding {
    const AREA: &str = "/dev/shm";
    const HINT: &str = "mount a tmpfs there (`mount -t tmpfs -o size=1g shm /dev/shm`; in a container `--shm-size=1g` or `--ipc=host`)";
    let fails = |reason: String| {
        DoctorFinding::warning(
            AREA,
            format!("{reason}: several ranks on this host may fail or be slow"),
            HINT,
        )
    };
    match (facts.exists, facts.writable, facts.size_bytes, facts.free_bytes) {
        (Some(false), ..) => fails("it does not exist".to_owned()),
        (_, Some(true), Some(total), Some(free)) if free < LEAST_SHARED => {
            fails(format!("{} of {} free, less than {}", size(free), size(total), size(LEAST_SHARED)))
        }
        (_, Some(true), Some(total), Some(free)) => {
            DoctorFinding::ok(AREA, format!("{} of {} free", size(free), size(total)))
        }
        _ => fails(facts.error.clone().unwrap_or_else(|| "it cannot be used".to_owned())),
    }
}

pub(super) fn limits(facts: &LimitFacts) -> Vec<DoctorFinding> {
    const AREA: &str = "limits";
    let mut found = Vec::new();
    if let Some(ProcessLimit { hard: Some(hard), .. }) = facts.open_files
        && hard < LEAST_FILES
    {
        found.push(DoctorFinding::warning(
            AREA,
            format!("{hard} open files; a run needs {LEAST_FILES} or more"),
            "raise the hard limit of open files (`nofile` in /etc/security/limits.conf; in a container `--ulimit nofile=65536`)",
        ));
    }
    if let Some(ProcessLimit { soft: Some(soft), .. }) = facts.locked_memory_bytes
        && !facts.fabrics.is_empty()
    {
        found.push(DoctorFinding::warning(
            AREA,
            format!("{} of locked memory; the fabric ({}) needs all of it", size(soft), facts.fabrics.join(", ")),
            "remove the limit (`memlock unlimited` in /etc/security/limits.conf; under Slurm `PropagateResourceLimitsExcept=MEMLOCK`; in a container `--ulimit memlock=-1`)",
        ));
    }
    if found.is_empty() {
        found.push(DoctorFinding::ok(AREA, listed(facts)));
    }
    found
}

fn listed(facts: &LimitFacts) -> String {
    let soft = |limit: Option<ProcessLimit>| limit.map(|limit| limit.soft);
    let files = facts.open_files.map(|limit| match limit.hard {
        Some(files) => count(files as usize, "open file"),
        None => "unlimited open files".to_owned(),
    });
    let locked = soft(facts.locked_memory_bytes).map(|locked| match locked {
        Some(bytes) => format!("{} of locked memory", size(bytes)),
        None => "unlimited locked memory".to_owned(),
    });
    let core = soft(facts.core_bytes).map(|core| match core {
        Some(0) => "no core dumps".to_owned(),
        Some(bytes) => format!("core dumps up to {}", size(bytes)),
        None => "core dumps".to_owned(),
    });
    [files, locked, core].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::levels;
    use super::*;

    fn two_of_four() -> CoreFacts {
        CoreFacts {
            present: Some(4),
            allowed: Some(2),
            usable: Some(2),
            model: Some("Processor".into()),
            instructions: vec!["AVX2".into(), "AVX-512".into()],
            architecture: "x86_64".into(),
        }
    }

    #[test]
    fn cores_say_what_limits_them() {
        let text = |facts: CoreFacts| cores(&facts).text;
        assert_eq!(
            text(two_of_four()),
            "2 of 4 (limited by the affinity or the cpuset), AVX2, AVX-512, Processor"
        );
        let quota = text(CoreFacts { usable: Some(1), ..two_of_four() });
        assert!(quota.starts_with("1 of 4 (limited by the CPU quota of the cgroup)"), "{quota}");
        let all = text(CoreFacts { present: Some(2), ..two_of_four() });
        assert!(all.starts_with("2 of 2, AVX2"), "{all}");
    }

    #[test]
    fn cores_without_avx2_are_slow_only_on_x86() {
        let old = CoreFacts { instructions: Vec::new(), ..two_of_four() };
        let arm = CoreFacts { architecture: "aarch64".into(), ..old.clone() };
        assert_eq!(levels([&cores(&old), &cores(&arm)]), ["cores warning", "cores ok"]);
    }

    #[test]
    fn memory_names_the_limit_of_the_cgroup() {
        let facts = MemoryFacts {
            total_bytes: Some(64 << 30),
            available_bytes: Some(60 << 30),
            limit_bytes: Some(8 << 30),
            used_of_limit_bytes: Some(2 << 30),
        };
        let found = memory(&facts);
        assert_eq!(found.text, "6.0 GiB of 64.0 GiB available, limited to 8.0 GiB by the cgroup");
        let full = MemoryFacts { used_of_limit_bytes: Some((8 << 30) - (100 << 20)), ..facts };
        assert_eq!(levels([&found, &memory(&full)]), ["memory ok", "memory warning"]);
        assert!(memory(&full).text.ends_with("; a rank needs 1.0 GiB at least"));
    }

    #[test]
    fn shared_memory_may_be_absent_small_or_closed() {
        let good = FolderFacts {
            exists: Some(true),
            writable: Some(true),
            size_bytes: Some(8 << 30),
            free_bytes: Some(7 << 30),
            ..FolderFacts::default()
        };
        let text = |facts: FolderFacts| {
            let found = shared_memory(&facts);
            format!("{}: {}", found.level.word(), found.text)
        };
        assert_eq!(text(good.clone()), "ok: 7.0 GiB of 8.0 GiB free");
        let docker = FolderFacts { size_bytes: Some(64 << 20), free_bytes: Some(64 << 20), ..good.clone() };
        assert!(text(docker).starts_with("warning: 64.0 MiB of 64.0 MiB free, less than 128.0 MiB: "));
        let absent = FolderFacts { exists: Some(false), ..good.clone() };
        assert!(text(absent).starts_with("warning: it does not exist: "));
        let closed = FolderFacts {
            writable: Some(false),
            error: Some("cannot write a file: Read-only".into()),
            ..good
        };
        assert!(text(closed).starts_with("warning: cannot write a file: Read-only: "));
    }

    #[test]
    fn locked_memory_matters_only_with_a_fabric() {
        let limit = |soft, hard| Some(ProcessLimit { soft, hard });
        let facts = LimitFacts {
            open_files: limit(Some(1024), Some(20_000)),
            locked_memory_bytes: limit(Some(8 << 20), Some(8 << 20)),
            core_bytes: limit(Some(0), None),
            ..LimitFacts::default()
        };
        assert_eq!(limits(&facts)[0].text, "20000 open files, 8.0 MiB of locked memory, no core dumps");
        let with_fabric = LimitFacts { fabrics: vec!["mlx5_0".into()], ..facts.clone() };
        assert_eq!(levels(&limits(&with_fabric)), ["limits warning"]);
        assert!(limits(&with_fabric)[0].text.contains("(mlx5_0)"));
        let few = LimitFacts { open_files: limit(Some(256), Some(256)), ..facts };
        assert_eq!(levels(&limits(&few)), ["limits warning"]);
    }
}
