//! Messages for out-of-memory errors: the requested size, the kind of memory, and the option to lower.

use crate::config::Config;
use collectives::ActivitySnapshot;
use regex::Regex;
use std::fmt;
use std::sync::LazyLock;

/// Out-of-memory messages of libtorch, its GPU libraries, C++ and the system, with the size if they contain it.
static MESSAGES: LazyLock<Vec<(MemoryKind, Regex)>> = LazyLock::new(|| {
    let messages = [
        (MemoryKind::Gpu, r"(?i)CUDA out of memory\.?(?: Tried to allocate ([0-9.]+ ?[KMGT]?i?B))?"),
        (
            MemoryKind::Gpu,
            r"(?i)CUDA error: out of memory|cudaErrorMemoryAllocation|CU[A-Z]+_STATUS_ALLOC_FAILED",
        ),
        (MemoryKind::Host, r"(?i)you tried to allocate ([0-9]+ bytes)"),
        (MemoryKind::Host, r"(?i)memory allocation of ([0-9]+ bytes) failed"),
        (MemoryKind::Host, r"std::bad_alloc|Cannot allocate memory|\(os error 12\)"),
    ];
    let compile = |(place, text)| Regex::new(text).ok().map(|message| (place, message));
    messages.into_iter().filter_map(compile).collect()
});

/// The kind of memory that is exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryKind {
    /// Host memory.
    Host,
    /// GPU memory.
    Gpu,
}

/// A failed request for memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfMemory {
    place: MemoryKind,
    /// The size, as the library reports it.
    asked: Option<String>,
}

impl OutOfMemory {
    /// Recognises an out-of-memory message; none for other texts.
    pub fn of(text: &str) -> Option<Self> {
        MESSAGES.iter().find_map(|(place, message)| {
            let found = message.captures(text)?;
            let asked = found.get(1).map(|asked| asked.as_str().to_owned());
            Some(Self { place: *place, asked })
        })
    }

    /// A failed request for this number of bytes of host memory.
    pub fn of_host(bytes: usize) -> Self {
        Self { place: MemoryKind::Host, asked: Some(format!("{bytes} bytes")) }
    }

    /// One sentence: the kind of memory, where it happened, and what to lower.
    pub fn sentence(&self, moment: Option<&ActivitySnapshot>, limits: &MemoryOptions) -> String {
        let doing =
            moment.map(|now| format!(" after step {} ({}, in {})", now.step, now.phase, now.operation));
        format!("{self}{}\nhint: {}", doing.unwrap_or_default(), limits.advice(self.place, moment))
    }
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.place {
            MemoryKind::Host => "out of memory",
            MemoryKind::Gpu => "out of GPU memory",
        })?;
        let Some(asked) = &self.asked else { return Ok(()) };
        write!(f, ": {asked} requested")
    }
}

/// The options that determine the memory use.
#[derive(Debug, Clone, Copy)]
pub struct MemoryOptions {
    micro_batch_size: u64,
    eval_batch_size: u64,
    prefetch: u64,
}

impl MemoryOptions {
    /// Before a configuration is known.
    pub const NONE: Self = Self { micro_batch_size: 0, eval_batch_size: 0, prefetch: 0 };

    /// The values of a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            micro_batch_size: config.train.micro_batch_size.min(config.train.batch_size),
            eval_batch_size: config.eval.batch_size,
            prefetch: u64::from(config.data.prefetch),
        }
    }

    fn advice(self, place: MemoryKind, moment: Option<&ActivitySnapshot>) -> String {
        let lower = |key: &str, now: u64| if now > 0 { format!("{key} (now {now})") } else { key.to_owned() };
        let evaluates = moment.is_some_and(|now| matches!(now.phase, "evaluating" | "init"));
        let batch = if evaluates {
            lower("eval.batch_size", self.eval_batch_size)
        } else {
            lower("train.micro_batch_size", self.micro_batch_size)
        };
        match place {
            MemoryKind::Gpu => {
                format!("lower {batch}, or shard the backbone over ranks with backbone.placement=sharded")
            }
            MemoryKind::Host => {
                let prefetch = lower("data.prefetch", self.prefetch);
                format!(
                    "lower {batch} or {prefetch}, start fewer ranks on this machine, or give the job more memory"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_libraries_say_about_memory_is_understood() {
        let gpu = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 139.81 GiB";
        let host = "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
                    allocate 411041792 bytes. Error code 12 (Cannot allocate memory)";
        for (text, expected) in [
            (gpu, Some("out of GPU memory: 2.50 GiB requested")),
            ("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", Some("out of GPU memory")),
            (host, Some("out of memory: 411041792 bytes requested")),
            ("Torch(\"std::bad_alloc\")", Some("out of memory")),
            ("cannot read `x`: Cannot allocate memory (os error 12)", Some("out of memory")),
            ("no space left on device (os error 28)", None),
            ("os error 123, of memory", None),
        ] {
            assert_eq!(OutOfMemory::of(text).map(|found| found.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_option_to_lower_fits_what_was_being_done() {
        let limits = MemoryOptions { micro_batch_size: 32, eval_batch_size: 64, prefetch: 4 };
        let moment = |phase| ActivitySnapshot {
            step: 7,
            phase,
            operation: "step",
            waits_for_others: false,
            calls: 1,
            bytes: 0,
            timeout: Duration::MAX,
        };
        let host = OutOfMemory::of_host(4096);
        assert_eq!(
            host.sentence(Some(&moment("training")), &limits),
            "out of memory: 4096 bytes requested after step 7 (training, in step)\nhint: lower train.micro_batch_size \
             (now 32) or data.prefetch (now 4), start fewer ranks on this machine, or give the job more memory"
        );
        let gpu = OutOfMemory { place: MemoryKind::Gpu, asked: None };
        assert_eq!(
            gpu.sentence(Some(&moment("evaluating")), &limits),
            "out of GPU memory after step 7 (evaluating, in step)\nhint: lower eval.batch_size (now 64), or shard the backbone \
             over ranks with backbone.placement=sharded"
        );
    }
}
