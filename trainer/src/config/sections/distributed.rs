//! `[distributed]`: several ranks.

use super::MAX_COUNT;
use super::head::TRAINED;
use crate::options::{Needs, none_of, section, words};
use std::ops::Bound::{Excluded, Included};

/// Ten years: above this no clock can be set.
const MAX_SECONDS: u64 = 315_360_000;
/// Under `any_world` gradients travel in one piece, as they are.
const PIECES: Needs = none_of("train.determinism", &["any_world"]);

section! {
    /// Communication between ranks.
    pub struct DistributedOptions in "distributed" {
        /// Communication backend of tensors.
        #[resume(Free)]
        pub backend: Backend = Backend::Auto,
        /// Seconds that a rank waits for the others before it ends the job; applies to every phase.
        #[range(1..=MAX_SECONDS)]
        #[resume(Free)]
        pub timeout_seconds: u64 = 600,
        /// Seconds without progress during training after which a rank counts as stuck. If five of its steps take
        /// longer, five steps are the limit.
        #[range(0.1..=1e8)]
        #[needs(TRAINED)]
        #[resume(Free)]
        pub stall_seconds: f64 = 10.0,
        /// Overlap the all-reduce of gradients with the backward pass of the blocks below.
        #[needs(TRAINED, PIECES)]
        #[resume(Free)]
        pub overlap: bool = true,
        /// Size in MB at which a gradient bucket is complete and is reduced.
        #[range((Excluded(0.0), Included(1e6)))]
        #[needs(TRAINED, PIECES)]
        #[resume(Free)]
        pub bucket_megabytes: f64 = 1.0,
        /// Element type of gradients while they are communicated.
        #[needs(TRAINED, PIECES)]
        pub wire: Wire = Wire::Fp32,
        /// Steps between two comparisons of the trained tensors across ranks; 0 disables the comparison.
        #[range(..=MAX_COUNT)]
        #[needs(TRAINED)]
        #[resume(Free)]
        pub check_every_steps: u64 = 100,
    }
}

words! {
    /// Communication backend of tensors.
    pub enum Backend {
        /// NCCL between GPUs, else MPI.
        Auto = "auto",
        /// MPI; tensors on a GPU are copied through host memory.
        Mpi = "mpi",
        /// NCCL; without it the run does not start.
        Nccl = "nccl",
    }
}

words! {
    /// Element type of gradients while they are communicated.
    pub enum Wire {
        /// 32 bits, unchanged.
        Fp32 = "fp32",
        /// 16 bits: half the bytes, with 8 bits of precision.
        Bf16 = "bf16",
    }
}
