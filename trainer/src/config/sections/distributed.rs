//! `[distributed]`: several ranks.

use super::super::section::{section, words};

section! {
    /// Several ranks.
    pub struct Distributed in "distributed" {
        /// What tensors travel over.
        pub backend: Backend,
        /// Seconds that a rank waits for the others before it ends the job; the limit of every phase.
        pub timeout_seconds: u64,
        /// Seconds without progress, in training, after which a rank counts as stuck, if its steps are not so long
        /// that five of them take longer.
        pub stall_seconds: f64,
        /// Gradients travel while those of the blocks below are computed.
        pub overlap: bool,
        /// Size from which a part of the gradient travels by itself, in MB.
        pub bucket_megabytes: f64,
        /// Element type of gradients on the wire.
        pub wire: Wire,
        /// Steps between two comparisons of the trained tensors over ranks; 0 is never.
        pub check_every_steps: u64,
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
