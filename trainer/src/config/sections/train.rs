//! `[train]`: the optimiser, its schedule, and what it runs on.

use super::super::section::{section, words};

section! {
    /// The optimiser (SGD), its schedule, and what it runs on.
    pub struct Train in "train" {
        /// Seed of the order, the augmentation and the first values.
        pub seed: u64,
        /// Epochs to train; 0 evaluates the start of the run that the other options describe.
        pub epochs: u64,
        /// Images of a step, over all ranks.
        pub batch_size: u64,
        /// Images that go through the model at once, at most, on each rank. A rank whose share of the batch is
        /// larger adds up the gradients of several micro-batches. With `train.accumulation = "exact"` it changes
        /// memory and speed only.
        pub micro_batch_size: u64,
        /// Learning rate of the first step.
        pub learning_rate: f64,
        /// Momentum of SGD, from 0 to below 1.
        pub momentum: f64,
        /// Weight decay on every trained tensor.
        pub weight_decay: f64,
        /// How the learning rate falls.
        pub schedule: Schedule,
        /// Numbers that the backbone computes with; the head, the loss and the trained tensors are fp32 or
        /// finer.
        pub precision: Precision,
        /// What each rank computes on.
        pub device: DeviceWish,
        /// Steps after which the run ends, whatever the epochs say; 0 is no limit.
        pub max_steps: u64,
        /// How the gradients of micro-batches become the gradient of a step.
        pub accumulation: Accumulation,
        /// How far the values of a run are those of another run with the same settings. See docs/architecture.md,
        /// "Determinism".
        pub determinism: Determinism,
        /// Shards into which each global batch is cut under `train.determinism = "any_world"`: a power of two, and at
        /// least the number of ranks. Another number gives other roundings.
        pub virtual_shards: u64,
        /// What a loss or gradient that is not finite does.
        pub non_finite: NonFinite,
        /// Steps with a loss or gradient that is not finite which a run may skip or roll back. Takes effect with
        /// `train.non_finite` `skip` or `rollback`.
        pub max_non_finite: u64,
        /// Threads of each rank that compute; 0 is the rank's share of the cores, or one thread under
        /// `train.determinism = "any_world"`, so that it does not depend on the number of ranks.
        pub threads: u32,
        /// Steps between two lines on the terminal.
        pub log_every: u64,
    }
}

impl Train {
    /// Threads of each rank that compute; 0 is the rank's share of the cores.
    #[must_use]
    pub fn compute_threads(&self) -> usize {
        match self.threads {
            0 if self.determinism == Determinism::AnyWorld => 1,
            threads => threads as usize,
        }
    }
}

words! {
    /// How the learning rate falls.
    pub enum Schedule {
        /// Half a cosine, one value for all steps of an epoch, as LIFT.
        CosinePerEpoch = "cosine_per_epoch",
        /// Half a cosine over the steps of the run.
        CosinePerStep = "cosine_per_step",
        /// The same throughout.
        Constant = "constant",
    }
}

words! {
    /// Numbers that the backbone computes with.
    pub enum Precision {
        /// 32 bits.
        Fp32 = "fp32",
        /// 16 bits with the range of fp32.
        Bf16 = "bf16",
        /// 64 bits, for comparisons.
        Fp64 = "fp64",
    }
}

words! {
    /// What each rank computes on.
    pub enum DeviceWish {
        /// A GPU if there is one, else the CPU.
        Auto = "auto",
        /// A GPU, or the run does not start.
        Cuda = "cuda",
        /// The CPU.
        Cpu = "cpu",
    }
}

words! {
    /// How the gradients of micro-batches become the gradient of a step.
    pub enum Accumulation {
        /// The mean over the global batch, however it is cut.
        Exact = "exact",
        /// The means of the micro-batches over the number that a full batch has, as LIFT's published code
        /// does.
        Official = "official",
    }
}

words! {
    /// How far the values of a run are those of another run with the same settings.
    pub enum Determinism {
        /// Within rounding: whatever is fastest.
        Fast = "fast",
        /// To the bit on the same number of ranks.
        SameWorld = "same_world",
        /// To the bit on any number of ranks: the shards of a batch are added in one fixed tree.
        AnyWorld = "any_world",
    }
}

words! {
    /// What a loss or gradient that is not finite does.
    pub enum NonFinite {
        /// Ends the run.
        Stop = "stop",
        /// Leaves the step out.
        Skip = "skip",
        /// Goes back to the last checkpoint and leaves the step out.
        Rollback = "rollback",
    }
}
