//! Limits for numbers on the command line. A larger number is a typing mistake, and is refused before a program starts
//! that would allocate memory for it.

use std::num::NonZeroUsize;

/// Ranks per host. The largest machines have a few hundred cores.
pub const RANKS_OF_HOST: u32 = 1024;
/// Ranks per run: ten times as many as the largest known training run.
pub const RANKS: u32 = 1 << 20;
/// Nodes per job; the largest clusters have tens of thousands.
pub const NODES: u32 = 100_000;
/// Threads per rank, the same limit as that of `train.threads` in the trainer.
pub const THREADS: u32 = 1024;
/// Restarts: one per minute for two years.
pub const RESTARTS: u32 = 1_000_000;
/// Seconds of a wait: one day.
pub const WAIT_SECONDS: u32 = 86_400;
/// Seconds of a job: ten years.
pub const JOB_SECONDS: u64 = 315_360_000;
/// Largest task number of an array: the largest `MaxArraySize` that Slurm allows.
pub const ARRAY_TASK: u32 = 4_000_000;
/// Mebibytes of memory per node: one pebibyte.
pub const MEMORY_MEBIBYTES: u64 = 1 << 30;

/// Maximum number of ranks on this machine: several per core, and a few dozen for experiments. Each rank needs its own
/// memory.
pub fn ranks_here() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (8 * cores).clamp(64, RANKS_OF_HOST as usize)
}
