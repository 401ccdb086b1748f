//! Numbers that nobody means. They are refused by name before a program is started that would take them at their word,
//! and memory with it.

use std::num::NonZeroUsize;

/// Ranks of one host. The largest machines have a few hundred cores.
pub const RANKS_OF_HOST: u32 = 1024;
/// Ranks of a run: ten times those of the largest training there ever was.
pub const RANKS: u32 = 1 << 20;
/// Nodes of a job; the largest clusters have tens of thousands.
pub const NODES: u32 = 100_000;
/// Threads of a rank, as the trainer has it for `train.threads`.
pub const THREADS: u32 = 1024;
/// Restarts: one a minute for two years.
pub const RESTARTS: u32 = 1_000_000;
/// Seconds that somebody waits for something, at most a day.
pub const WAIT_SECONDS: u32 = 86_400;
/// Seconds that a job may take, ten years.
pub const JOB_SECONDS: u64 = 315_360_000;
/// The greatest number of a task in an array: Slurm's own greatest `MaxArraySize`.
pub const ARRAY_TASK: u32 = 4_000_000;
/// Mebibytes of a node's memory: a pebibyte.
pub const MEMORY_MEBIBYTES: u64 = 1 << 30;

/// Ranks that this machine can be meant to take: some for each core, and a few dozen to try things out. Each of them
/// takes memory of its own.
pub fn ranks_here() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (8 * cores).clamp(64, RANKS_OF_HOST as usize)
}
