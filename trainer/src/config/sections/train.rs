//! `[train]`: the optimiser, its schedule, and what it runs on.

use super::head::TRAINED;
use super::{MAX_COUNT, MAX_IMAGES};
use crate::options::{Needs, Values, above, holds, one_of, section, words};

/// A micro-batch is a part of a batch.
const CUTS_THE_BATCH: Needs = holds("train.batch_size", "up to `train.batch_size`", |values: &Values| {
    values.of::<u64>("train.micro_batch_size") <= values.of::<u64>("train.batch_size")
});

section! {
    /// The optimiser (SGD), its schedule, and what it runs on.
    pub struct TrainOptions in "train" {
        /// Seed of the order, the augmentation and the first values.
        #[resume(Order)]
        pub seed: u64 = 0,
        /// Epochs to train; 0 evaluates the start of the run that the other options describe.
        #[range(..=MAX_COUNT)]
        pub epochs: u64 = 10,
        /// Images of a step, over all ranks.
        #[range(1..=MAX_IMAGES)]
        #[needs(TRAINED)]
        #[resume(Order)]
        pub batch_size: u64 = 128,
        /// Images that go through the model at once, at most, on each rank. A rank whose share of the batch is
        /// larger adds up the gradients of several micro-batches. With `train.accumulation = "exact"` it changes
        /// memory and speed only.
        #[range(1..=MAX_IMAGES)]
        #[needs(TRAINED, CUTS_THE_BATCH)]
        pub micro_batch_size: u64 = 128,
        /// Learning rate of the first step.
        #[range(above(0.0))]
        #[needs(TRAINED)]
        pub learning_rate: f64 = 0.01,
        /// Momentum of SGD.
        #[range(0.0..1.0)]
        #[needs(TRAINED)]
        pub momentum: f64 = 0.9,
        /// Weight decay on every trained tensor.
        #[range(0.0..)]
        #[needs(TRAINED)]
        pub weight_decay: f64 = 5e-4,
        /// How the learning rate falls.
        #[needs(TRAINED)]
        pub schedule: ScheduleName = ScheduleName::CosinePerEpoch,
        /// Numbers that the backbone computes with; the head, the loss and the trained tensors are fp32 or
        /// finer.
        pub precision: PrecisionName = PrecisionName::Fp32,
        /// What each rank computes on.
        #[resume(Free)]
        pub device: DeviceName = DeviceName::Auto,
        /// Steps after which the run ends, whatever the epochs say; 0 is no limit.
        #[range(..=MAX_COUNT)]
        #[needs(TRAINED)]
        pub max_steps: u64 = 0,
        /// How the gradients of micro-batches become the gradient of a step.
        #[needs(TRAINED)]
        pub accumulation: AccumulationName = AccumulationName::Exact,
        /// How far the values of a run are those of another run with the same settings. See docs/architecture.md,
        /// "Determinism".
        #[needs(TRAINED)]
        pub determinism: Determinism = Determinism::Fast,
        /// Shards into which each global batch is cut. They are at least as many as the ranks, and another number gives
        /// other roundings.
        #[range(|shards| shards.is_power_of_two() && *shards <= 1 << 16, "a power of two, at most 65536")]
        #[needs(TRAINED, one_of("train.determinism", &["any_world"]))]
        pub virtual_shards: u64 = 8,
        /// What a loss or gradient that is not finite does.
        #[needs(TRAINED)]
        pub non_finite: NonFinite = NonFinite::Stop,
        /// Steps that a run may skip or roll back because the loss or a gradient is not finite.
        #[range(..=MAX_COUNT)]
        #[needs(TRAINED, one_of("train.non_finite", &["skip", "rollback"]))]
        pub max_non_finite: u64 = 3,
        /// Threads of each rank that compute; 0 is the rank's share of the cores. Under
        /// `train.determinism = "any_world"` 0 is one thread, so that it does not depend on the number of ranks.
        #[range(..=1024)]
        #[resume(Free)]
        pub threads: u32 = 0,
        /// Steps between two lines on the terminal.
        #[range(1..)]
        #[resume(Free)]
        pub log_every: u64 = 10,
    }
}

impl TrainOptions {
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
    pub enum ScheduleName {
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
    pub enum PrecisionName {
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
    pub enum DeviceName {
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
    pub enum AccumulationName {
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
