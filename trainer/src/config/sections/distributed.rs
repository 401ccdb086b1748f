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
    /// Several ranks.
    pub struct DistributedOptions in "distributed" {
        /// What tensors travel over.
        #[resume(Free)]
        pub backend: Backend = Backend::Auto,
        /// Seconds that a rank waits for the others before it ends the job; the limit of every phase.
        #[range(1..=MAX_SECONDS)]
        #[resume(Free)]
        pub timeout_seconds: u64 = 600,
        /// Seconds without progress, in training, after which a rank counts as stuck. If five of its steps take longer,
        /// that is the limit.
        #[range(0.1..=1e8)]
        #[needs(TRAINED)]
        #[resume(Free)]
        pub stall_seconds: f64 = 10.0,
        /// Gradients travel while those of the blocks below are computed.
        #[needs(TRAINED, PIECES)]
        #[resume(Free)]
        pub overlap: bool = true,
        /// Size from which a part of the gradient travels by itself, in MB.
        #[range((Excluded(0.0), Included(1e6)))]
        #[needs(TRAINED, PIECES)]
        #[resume(Free)]
        pub bucket_megabytes: f64 = 1.0,
        /// Element type of gradients on the wire.
        #[needs(TRAINED, PIECES)]
        pub wire: Wire = Wire::Fp32,
        /// Steps between two comparisons of the trained tensors over ranks; 0 is never.
        #[range(..=MAX_COUNT)]
        #[needs(TRAINED)]
        #[resume(Free)]
        pub check_every_steps: u64 = 100,
    }
}

words! {
    /// What tensors travel over.
    pub enum Backend {
        /// NCCL between GPUs, MPI otherwise.
        Auto = "auto",
        /// MPI; tensors on a GPU pass through host memory.
        Mpi = "mpi",
        /// NCCL, or the run does not start.
        Nccl = "nccl",
    }
}

words! {
    /// Element type of gradients on the wire.
    pub enum Wire {
        /// As they are.
        Fp32 = "fp32",
        /// Half the bytes, with 8 bits of precision.
        Bf16 = "bf16",
    }
}
