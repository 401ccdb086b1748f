//! Messages for out-of-memory errors: the requested size, the kind of memory, and the option to lower.

use crate::config::{Config, PrecisionName};
use crate::engine::gpu::pass_memory;
use collectives::ActivitySnapshot;
use regex::{Captures, Regex};
use std::fmt;
use std::hint::black_box;
use std::sync::LazyLock;

/// Out-of-memory messages of libtorch, its GPU libraries, C++ and the system, with the sizes that they contain: requested,
/// in total, free.
static MESSAGES: LazyLock<Vec<(MemoryKind, Regex)>> = LazyLock::new(|| {
    let messages = [
        (
            MemoryKind::Gpu,
            r"(?i)CUDA out of memory\.?(?: Tried to allocate ([0-9.]+ ?(?:bytes|[KMGT]iB)))?(?:.*total capacity of ([0-9.]+ ?(?:bytes|[KMGT]iB)) of which ([0-9.]+ ?(?:bytes|[KMGT]iB)) is free)?",
        ),
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

/// oneDNN's words for any failure to make or run a kernel. They omit the status, which may be `out_of_memory`.
static KERNEL_FAILED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"could not (create|execute|initialize) a").ok());
/// Bytes that the system must still grant for a failed kernel to have another reason than memory.
const SPARE: usize = 64 << 20;

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
    /// What is free, and the whole memory, if the library reports them.
    free: Option<(String, String)>,
}

impl OutOfMemory {
    /// Recognises an out-of-memory message; none for other texts.
    pub fn of(text: &str) -> Option<Self> {
        let reported = MESSAGES.iter().find_map(|(place, message)| {
            let found = message.captures(text)?;
            let size = |at| size(&found, at);
            Some(Self { place: *place, asked: size(1), free: size(3).zip(size(2)) })
        });
        reported.or_else(|| {
            let failed = KERNEL_FAILED.as_ref().is_some_and(|words| words.is_match(text));
            (failed && !host_grants(SPARE)).then_some(Self {
                place: MemoryKind::Host,
                asked: None,
                free: None,
            })
        })
    }

    /// Whether it is a GPU's memory: then the library's own text is all in [`sentence`](Self::sentence).
    pub fn is_of_gpu(&self) -> bool {
        self.place == MemoryKind::Gpu
    }

    /// A failed request for this number of bytes of host memory.
    pub fn of_host(bytes: usize) -> Self {
        Self { place: MemoryKind::Host, asked: Some(format!("{bytes} bytes")), free: None }
    }

    /// One sentence with the kind of memory and where it happened, and a hint with what to lower.
    pub fn sentence(&self, moment: Option<&ActivitySnapshot>, limits: &MemoryOptions) -> String {
        let comma = if self.free.is_some() { "," } else { "" };
        let doing = moment
            .map(|now| format!("{comma} after step {} ({}, in {})", now.step, now.phase, now.operation));
        let fits = pass_memory::images_that_fit(self.asked.as_deref().map_or(0, bytes));
        let advice = limits.advice(self.place, moment, fits);
        format!("{self}{}\nhint: {advice}", doing.unwrap_or_default())
    }
}

/// Whether the system grants this number of bytes. It is not touched, so a limit of resident memory does not count.
fn host_grants(bytes: usize) -> bool {
    let mut probe = Vec::<u8>::new();
    let granted = probe.try_reserve_exact(bytes).is_ok();
    // Otherwise the compiler may leave out an allocation that nothing reads.
    black_box(probe);
    granted
}

fn size(found: &Captures<'_>, at: usize) -> Option<String> {
    found.get(at).map(|size| size.as_str().to_owned())
}

/// Bytes of a size as libtorch writes it, such as `2.50 GiB`.
fn bytes(size: &str) -> u64 {
    let (number, unit) = size.split_once(' ').unwrap_or((size, "bytes"));
    let power = ["bytes", "KiB", "MiB", "GiB", "TiB"].iter().position(|name| *name == unit).unwrap_or(0);
    (number.parse::<f64>().unwrap_or(0.0) * 1024f64.powi(power as i32)) as u64
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.place {
            MemoryKind::Host => "out of memory",
            MemoryKind::Gpu => "out of GPU memory",
        })?;
        let Some(asked) = &self.asked else { return Ok(()) };
        write!(f, ": {asked} requested")?;
        let Some((free, total)) = &self.free else { return Ok(()) };
        write!(f, ", {free} of {total} free")
    }
}

/// The options that determine the memory use.
#[derive(Debug, Clone, Copy)]
pub struct MemoryOptions {
    micro_batch_size: u64,
    eval_batch_size: u64,
    prefetch: u64,
    precision: Option<PrecisionName>,
}

impl MemoryOptions {
    /// Before a configuration is known.
    pub const NONE: Self = Self { micro_batch_size: 0, eval_batch_size: 0, prefetch: 0, precision: None };

    /// The values of a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            micro_batch_size: config.train.images_at_once().min(config.train.batch_size),
            eval_batch_size: config.eval.batch_size,
            prefetch: u64::from(config.data.prefetch),
            precision: Some(config.train.precision),
        }
    }

    /// What to set; `fits` is the number of images that should fit, if it is known.
    fn advice(&self, place: MemoryKind, moment: Option<&ActivitySnapshot>, fits: Option<u64>) -> String {
        let lower = |key: &str, now: u64| match (fits, now) {
            (Some(fits), 1..) if fits < now => format!("set {key}={fits}, which should fit (now {now})"),
            (_, 1..) => format!("lower {key} (now {now})"),
            (_, 0) => format!("lower {key}"),
        };
        // Before the first pass it is the model that does not fit.
        let loads = moment.is_some_and(|now| now.phase == "init") && !pass_memory::is_under_way();
        let evaluates = moment.is_some_and(|now| matches!(now.phase, "evaluating" | "init"));
        let batch = if evaluates {
            lower("eval.batch_size", self.eval_batch_size)
        } else {
            lower("train.micro_batch_size", self.micro_batch_size)
        };
        match place {
            MemoryKind::Gpu => {
                let sharded = "shard the backbone over ranks with backbone.placement=sharded";
                let half = self.precision;
                let half = half.filter(|now| !matches!(now, PrecisionName::Bf16 | PrecisionName::Fp16));
                let half = half.map(|now| format!("set train.precision=bf16 (now {now})"));
                let others: Vec<String> = Some(batch).filter(|_| !loads).into_iter().chain(half).collect();
                if others.is_empty() {
                    sharded.to_owned()
                } else {
                    format!("{}, or {sharded}", others.join(", "))
                }
            }
            MemoryKind::Host => {
                let prefetch = if self.prefetch > 0 {
                    format!("data.prefetch (now {})", self.prefetch)
                } else {
                    "data.prefetch".to_owned()
                };
                format!(
                    "{batch} or {prefetch}, start fewer ranks on this machine, or give the job more memory"
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
        let gpu = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 139.81 GiB of which 12.00 \
                   MiB is free. Process 7 has 139.79 GiB memory in use.";
        let host = "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
                    allocate 411041792 bytes. Error code 12 (Cannot allocate memory)";
        for (text, expected) in [
            (gpu, Some("out of GPU memory: 2.50 GiB requested, 12.00 MiB of 139.81 GiB free")),
            (
                "CUDA out of memory. Tried to allocate 20 bytes (GPU 1)",
                Some("out of GPU memory: 20 bytes requested"),
            ),
            ("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", Some("out of GPU memory")),
            (host, Some("out of memory: 411041792 bytes requested")),
            ("Torch(\"std::bad_alloc\")", Some("out of memory")),
            ("cannot read `x`: Cannot allocate memory (os error 12)", Some("out of memory")),
            ("no space left on device (os error 28)", None),
            ("os error 123, of memory", None),
            // With memory to spare it is another failure of oneDNN.
            ("Torch(\"could not create a primitive\")", None),
        ] {
            assert_eq!(OutOfMemory::of(text).map(|found| found.to_string()).as_deref(), expected, "{text}");
        }
        assert_eq!(["512 bytes", "2.50 GiB", "12.00 MiB"].map(bytes), [512, 5 << 29, 12 << 20]);
    }

    #[test]
    fn the_option_to_lower_fits_what_was_being_done() {
        let precision = Some(PrecisionName::Fp32);
        let limits = MemoryOptions { micro_batch_size: 32, eval_batch_size: 64, prefetch: 4, precision };
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
        let gpu = OutOfMemory { place: MemoryKind::Gpu, asked: None, free: None };
        assert_eq!(
            gpu.sentence(Some(&moment("evaluating")), &limits),
            "out of GPU memory after step 7 (evaluating, in step)\nhint: lower eval.batch_size (now 64), set \
             train.precision=bf16 (now fp32), or shard the backbone over ranks with backbone.placement=sharded"
        );
        assert_eq!(
            gpu.sentence(Some(&moment("init")), &limits),
            "out of GPU memory after step 7 (init, in step)\nhint: set train.precision=bf16 (now fp32), or shard the \
             backbone over ranks with backbone.placement=sharded"
        );
        let half = MemoryOptions { precision: Some(PrecisionName::Bf16), ..limits };
        assert_eq!(
            half.advice(MemoryKind::Gpu, Some(&moment("training")), Some(8)),
            "set train.micro_batch_size=8, which should fit (now 32), or shard the backbone over ranks with \
             backbone.placement=sharded"
        );
    }
}
