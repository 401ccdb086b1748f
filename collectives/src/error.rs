//! What can go wrong between ranks.

use std::time::Duration;

/// A collective call that did not succeed on this rank.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CollectiveError {
    /// MPI answered with an error code.
    #[error("rank {rank}: MPI's {operation} failed after step {step}: {message}")]
    Mpi {
        /// Rank on which the call failed.
        rank: usize,
        /// Name of the collective.
        operation: &'static str,
        /// Steps done before it.
        step: u64,
        /// MPI's own text for its code.
        message: String,
    },
    /// NCCL, or CUDA below it, answered with an error.
    #[error("rank {rank}: NCCL's {operation} failed after step {step}: {message}")]
    Nccl {
        /// Rank on which the call failed.
        rank: usize,
        /// Name of the collective.
        operation: &'static str,
        /// Steps done before it.
        step: u64,
        /// The call that failed, and the library's own text.
        message: String,
    },
    /// The other ranks did not come.
    #[error(
        "rank {rank}: {operation} was not done within {:.1} s after step {step}: another rank is dead or stuck, or makes other calls",
        timeout.as_secs_f64()
    )]
    TimedOut {
        /// Rank on which the call was made.
        rank: usize,
        /// Name of the collective.
        operation: &'static str,
        /// Steps done before it.
        step: u64,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// NCCL cannot be used by one of the ranks.
    #[error("rank {rank}: NCCL cannot be used: {message}")]
    Unavailable {
        /// The first rank that cannot.
        rank: usize,
        /// Why.
        message: String,
    },
    /// Two ranks were given one GPU, which NCCL cannot take.
    #[error(
        "ranks {first} and {second} share one GPU ({gpu} on {host}), but NCCL needs one for each rank: start one rank per GPU; under Slurm use --gpus-per-node with --gpu-bind=none and as many tasks per node"
    )]
    SameGpu {
        /// A rank on it.
        first: usize,
        /// Another rank on it.
        second: usize,
        /// Name of the host.
        host: String,
        /// Name of the GPU.
        gpu: String,
    },
    /// A tensor that the operation cannot take.
    #[error("rank {rank}: {operation} needs {expected}, found {found}")]
    Tensor {
        /// Rank on which the call was made.
        rank: usize,
        /// Name of the collective.
        operation: &'static str,
        /// What the operation takes.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// The thread that makes collective calls beside the main thread is gone, or cannot be started.
    #[error("rank {rank}: there is no thread to make {operation} beside the computation; see ulimit -u")]
    Thread {
        /// Rank on which it ended.
        rank: usize,
        /// Name of the collective.
        operation: &'static str,
    },
    /// Bytes of another rank that cannot be understood.
    #[error("rank {rank}: {operation} received bytes that are not {expected}")]
    Message {
        /// Rank on which the call was made.
        rank: usize,
        /// Name of the operation.
        operation: &'static str,
        /// What was expected.
        expected: &'static str,
    },
}

/// The world of ranks could not be started, or is not the one that the launcher meant.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// MPI did not start.
    #[error("MPI did not start; it may have been started before in this process")]
    MpiInit,
    /// The launcher started more processes than MPI knows of: each would train alone.
    #[error(
        "{variable} says that the world has {expected} ranks, but MPI says {found}: each process would run alone"
    )]
    WorldSize {
        /// Environment variable that tells the size.
        variable: String,
        /// Size according to the launcher.
        expected: usize,
        /// Size according to MPI.
        found: usize,
        /// What to do about it.
        hint: String,
    },
    /// MPI was built for calls from one thread only.
    #[error(
        "this MPI library allows the thread level {found}, and calls from several threads are needed; use one built with MPI_THREAD_MULTIPLE"
    )]
    Threading {
        /// What it allows.
        found: String,
    },
    /// A collective failed during start-up.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
}

impl LaunchError {
    /// The remedy, where there is one.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::WorldSize { hint, .. } => Some(hint),
            _ => None,
        }
    }
}
