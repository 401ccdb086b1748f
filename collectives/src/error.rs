//! Errors of communication between ranks.

use std::time::Duration;

/// A failed collective call.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CollectiveError {
    /// MPI returned an error code.
    #[error("rank {rank}: MPI's {operation} failed after step {step}: {message}")]
    Mpi {
        /// Rank on which the call failed.
        rank: usize,
        /// Name of the collective.
        operation: &'static str,
        /// Steps done before it.
        step: u64,
        /// MPI's text for the error code.
        message: String,
    },
    /// NCCL or CUDA returned an error.
    #[error("rank {rank}: NCCL's {operation} failed after step {step}: {message}")]
    Nccl {
        /// Rank on which the call failed.
        rank: usize,
        /// Name of the collective.
        operation: &'static str,
        /// Steps done before it.
        step: u64,
        /// The failed call and the text of the library.
        message: String,
    },
    /// The other ranks did not make the call in time.
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
        /// The timeout.
        timeout: Duration,
    },
    /// NCCL cannot be used by one of the ranks.
    #[error("rank {rank}: NCCL cannot be used: {message}")]
    Unavailable {
        /// The lowest rank that cannot use NCCL.
        rank: usize,
        /// The reason.
        message: String,
    },
    /// Two ranks share one GPU, which NCCL does not support.
    #[error(
        "ranks {first} and {second} share one GPU ({gpu} on {host}), but NCCL needs one for each rank: start one rank per GPU; under Slurm use --gpus-per-node with --gpu-bind=none and as many tasks per node"
    )]
    SameGpu {
        /// The first rank on the GPU.
        first: usize,
        /// The second rank on the GPU.
        second: usize,
        /// Name of the host.
        host: String,
        /// Name of the GPU.
        gpu: String,
    },
    /// A tensor that the operation does not support.
    #[error("rank {rank}: {operation} needs {expected}, found {found}")]
    Tensor {
        /// Rank on which the call was made.
        rank: usize,
        /// Name of the collective.
        operation: &'static str,
        /// The expected tensor.
        expected: String,
        /// The tensor found.
        found: String,
    },
    /// The progress thread for collective calls has exited, or cannot be started.
    #[error(
        "rank {rank}: the progress thread for {operation} cannot start or has ended\nhint: check the limit on processes (ulimit -u)"
    )]
    Thread {
        /// Rank of the thread.
        rank: usize,
        /// Name of the collective.
        operation: &'static str,
    },
    /// Bytes of another rank that cannot be decoded.
    #[error("rank {rank}: {operation} received bytes that are not {expected}")]
    Message {
        /// Rank on which the call was made.
        rank: usize,
        /// Name of the operation.
        operation: &'static str,
        /// The expected content.
        expected: &'static str,
    },
}

/// MPI could not be started, or its world does not match the launcher.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// MPI did not start.
    #[error("MPI did not start; it may have been started before in this process")]
    MpiInit,
    /// The launcher started more processes than MPI reports: each would train alone.
    #[error(
        "{variable} says that the world has {expected} ranks, but MPI says {found}: each process would run alone\nhint: {hint}"
    )]
    WorldSize {
        /// Environment variable with the expected size.
        variable: String,
        /// Size according to the launcher.
        expected: usize,
        /// Size according to MPI.
        found: usize,
        /// The remedy.
        hint: String,
    },
    /// MPI does not support calls from several threads.
    #[error(
        "this MPI library allows the thread level {found}, and calls from several threads are needed\nhint: use one built with MPI_THREAD_MULTIPLE"
    )]
    Threading {
        /// The supported thread level.
        found: String,
    },
    /// A collective failed during start-up.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
}
