//! `[train]`: the optimiser, its schedule, and what it runs on.

use super::head::TRAINED;
use super::{MAX_COUNT, MAX_IMAGES};
use crate::options::{Needs, OptionType, Values, above, holds, one_of, section, words};
use toml::Value;

/// A micro-batch is a part of a batch.
const CUTS_THE_BATCH: Needs = holds("train.batch_size", "up to `train.batch_size`", |values: &Values| {
    let micro_batch: Option<MicroBatchSize> = values.of("train.micro_batch_size");
    micro_batch.and_then(MicroBatchSize::images) <= values.of::<u64>("train.batch_size")
});

section! {
    /// The optimiser (SGD), its schedule and its device.
    pub struct TrainOptions in "train" {
        /// Seed of the sample order, the augmentation and the initial values.
        #[resume(Order)]
        pub seed: u64 = 0,
        /// Epochs to train; 0 evaluates the initial state of the run that the other options describe.
        #[range(..=MAX_COUNT)]
        pub epochs: u64 = 10,
        /// Global batch size: images per step over all ranks.
        #[range(1..=MAX_IMAGES)]
        #[needs(TRAINED)]
        #[resume(Order)]
        pub batch_size: u64 = 128,
        /// Largest number of images in one forward pass on each rank. A rank with a larger share of the batch
        /// accumulates the gradients of several micro-batches. With `train.accumulation = "exact"` it affects memory
        /// and speed only. `"auto"` is what fits into the free memory of every rank's device, as measured by a first pass; a
        /// run records the number, and resumes with it.
        #[needs(TRAINED, CUTS_THE_BATCH)]
        pub micro_batch_size: MicroBatchSize = MicroBatchSize::Images(128),
        /// Initial learning rate.
        #[range(above(0.0))]
        #[needs(TRAINED)]
        pub learning_rate: f64 = 0.01,
        /// Momentum of SGD.
        #[range(0.0..1.0)]
        #[needs(TRAINED)]
        pub momentum: f64 = 0.9,
        /// Weight decay of every trained tensor.
        #[range(0.0..)]
        #[needs(TRAINED)]
        pub weight_decay: f64 = 5e-4,
        /// Schedule of the learning rate.
        #[needs(TRAINED)]
        pub schedule: ScheduleName = ScheduleName::CosinePerEpoch,
        /// Precision of the backbone; the head, the loss and the trained tensors use fp32 or a higher precision.
        pub precision: PrecisionName = PrecisionName::Fp32,
        /// Precision of the hidden state between the products of a block, and of the norms that read it. `"bf16"` moves half of the
        /// memory, and rounds every addition to the hidden state to eight bits; it takes effect where products are bf16.
        #[needs(one_of("train.precision", &["auto", "bf16"]))]
        pub residual: ResidualName = ResidualName::Fp32,
        /// How the backbone is computed; the results are equal up to rounding.
        pub kernels: KernelsName = KernelsName::Fused,
        /// Kernel of libtorch that computes attention on a GPU; the results are equal up to rounding. `"auto"` is the fastest at
        /// the start of a run with `train.determinism = "fast"`, as measured at the run's shape; a run records the kernel, and
        /// resumes with it. A kernel that libtorch refuses for the run's shape or precision is an error at the start.
        pub attention: AttentionName = AttentionName::Auto,
        /// How frozen linear layers of the blocks are multiplied in the forward pass. `"fp8"` needs `train.precision` to be bf16 or
        /// fp16 and a GPU of compute capability 8.9 or later. `"auto"` is fp8 if the start of a run measures that it is faster
        /// and as accurate as its format; a run records the value, and resumes with it. See docs/performance.md.
        pub frozen_products: FrozenProductsName = FrozenProductsName::Compute,
        /// How a GPU computes norms and residual additions of the blocks; the results are equal up to rounding.
        pub gpu_kernels: GpuKernelsName = GpuKernelsName::Libtorch,
        /// Compute each block again in the backward pass instead of keeping what it computed. A step needs less memory and about a
        /// third more time; the results are the same.
        #[needs(TRAINED)]
        #[resume(Free)]
        pub recompute: bool = false,
        /// Capture each pass on a GPU (forward, loss, backward) as a CUDA graph and replay it. The host then starts no single
        /// kernels. The results are the same, bitwise where `train.determinism` makes a run repeatable. The first pass with a new
        /// number of images runs without a graph. The reduction of gradients starts after the last backward pass of a step, not
        /// during it, and the memory of a pass stays taken between steps. For a backbone and classes that are not sharded, and for
        /// losses that are sums over samples. It has not been measured on a GPU.
        #[needs(TRAINED)]
        #[resume(Free)]
        pub cuda_graphs: bool = false,
        /// Device of each rank; all ranks compute on GPUs, or all on CPUs.
        #[resume(Free)]
        pub device: DeviceName = DeviceName::Auto,
        /// Steps after which the run ends, regardless of the epochs; 0 sets no limit.
        #[range(..=MAX_COUNT)]
        #[needs(TRAINED)]
        pub max_steps: u64 = 0,
        /// How the gradients of micro-batches are combined into the gradient of a step.
        #[needs(TRAINED)]
        pub accumulation: AccumulationName = AccumulationName::Exact,
        /// How reproducible the run is. See docs/architecture.md, "Determinism".
        #[needs(TRAINED)]
        pub determinism: Determinism = Determinism::Fast,
        /// Number of virtual shards that each global batch is divided into. It must be at least the number of ranks.
        /// Another number gives other rounding.
        #[range(|shards| shards.is_power_of_two() && *shards <= 1 << 16, "a power of two, at most 65536")]
        #[needs(TRAINED, one_of("train.determinism", &["any_world"]))]
        pub virtual_shards: u64 = 8,
        /// Reaction to a loss or gradient that is not finite.
        #[needs(TRAINED)]
        pub non_finite: NonFinite = NonFinite::Stop,
        /// Steps that a run may skip or roll back because the loss or a gradient is not finite.
        #[range(..=MAX_COUNT)]
        #[needs(TRAINED, one_of("train.non_finite", &["skip", "rollback"]))]
        pub max_non_finite: u64 = 3,
        /// Compute threads per rank; 0 uses the rank's share of the cores. With `train.determinism = "any_world"`, 0
        /// is one thread, so that the number does not depend on the number of ranks.
        #[range(..=1024)]
        #[resume(Free)]
        pub threads: u32 = 0,
        /// Steps between two progress lines on the terminal.
        #[range(1..)]
        #[resume(Free)]
        pub log_every: u64 = 10,
        /// Write an event file for TensorBoard into the run folder, with the figures of `metrics.jsonl`.
        #[resume(Free)]
        pub tensorboard: bool = false,
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
    /// Schedule of the learning rate.
    pub enum ScheduleName {
        /// Half a cosine, with one value for all steps of an epoch, as in LIFT.
        CosinePerEpoch = "cosine_per_epoch",
        /// Half a cosine over the steps of the run.
        CosinePerStep = "cosine_per_step",
        /// The same value at every step.
        Constant = "constant",
    }
}

impl TrainOptions {
    /// The most images of a rank in a forward pass; before `"auto"` is settled, those of the batch.
    pub fn images_at_once(&self) -> u64 {
        self.micro_batch_size.images().unwrap_or(self.batch_size)
    }
}

/// The number of images in a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MicroBatchSize {
    /// As many as fit into memory.
    Auto,
    /// This number.
    Images(u64),
}

impl MicroBatchSize {
    /// The number, if it is known.
    pub const fn images(self) -> Option<u64> {
        match self {
            Self::Auto => None,
            Self::Images(images) => Some(images),
        }
    }
}

impl OptionType for MicroBatchSize {
    fn expected() -> String {
        format!("a whole number from 1 to {MAX_IMAGES}, or \"auto\"")
    }

    fn read(value: &Value) -> Option<Self> {
        match value.as_str() {
            Some("auto") => Some(Self::Auto),
            _ => u64::read(value).filter(|images| (1..=MAX_IMAGES).contains(images)).map(Self::Images),
        }
    }

    fn write(&self) -> Value {
        self.images().map_or_else(|| Value::String("auto".to_owned()), |images| images.write())
    }
}

words! {
    /// Precision of the backbone.
    pub enum PrecisionName {
        /// bf16 where the devices of all ranks compute it natively (CPUs with AVX512-BF16 or AMX, GPUs since Ampere), else fp32. The
        /// run records which of them it is.
        Auto = "auto",
        /// 32 bits.
        Fp32 = "fp32",
        /// fp32 whose convolutions and matrix products round their operands to TF32 (10 bits of mantissa), on the tensor cores
        /// of NVIDIA's GPUs since Ampere; refused on the CPU.
        Tf32 = "tf32",
        /// 16 bits with the range of fp32.
        Bf16 = "bf16",
        /// 16 bits with a finer mantissa than bf16 and a narrow range. A factor on the loss, adapted to overflows, keeps gradients
        /// within it. For GPUs; refused on the CPU.
        Fp16 = "fp16",
        /// 64 bits, for comparisons.
        Fp64 = "fp64",
    }
}

words! {
    /// How blocks are computed.
    pub enum KernelsName {
        /// In fewer passes over memory, with the faster of the libraries that libtorch contains.
        Fused = "fused",
        /// As the equations are written, by the operations that libtorch chooses; for comparisons.
        Plain = "plain",
    }
}

words! {
    /// Precision of the hidden state.
    pub enum ResidualName {
        /// As the trained tensors: fp32, or fp64 with `train.precision = "fp64"`.
        Fp32 = "fp32",
        /// As the products.
        Bf16 = "bf16",
    }
}

words! {
    /// Kernel of attention.
    pub enum AttentionName {
        /// The fastest of `flash`, `efficient` and `cudnn` under `train.determinism = "fast"`; libtorch's own choice under the other
        /// levels, in evaluations of a run without this option, and on the CPU.
        Auto = "auto",
        /// FlashAttention-2, for 16 bits.
        Flash = "flash",
        /// Memory-efficient attention of xFormers, for 16 and 32 bits.
        Efficient = "efficient",
        /// cuDNN's, for 16 bits. Its backward pass is not deterministic.
        CuDnn = "cudnn",
        /// Two matrix products with a softmax between them. It keeps the scores of all heads in memory, so `auto` never is `math`.
        Math = "math",
    }
}

words! {
    /// Products of frozen layers.
    pub enum FrozenProductsName {
        /// In the precision of the run.
        Compute = "compute",
        /// In 8 bits (e4m3) with a scale for each token and each output. Gradients are multiplied in the precision of the run.
        Fp8 = "fp8",
        /// `fp8` if it is measured to be at least 5 % faster and within the errors of its format, else `compute`.
        Auto = "auto",
    }
}

words! {
    /// How a GPU computes norms and residual additions.
    pub enum GpuKernelsName {
        /// By libtorch's operations.
        Libtorch = "libtorch",
        /// By kernels that are compiled with NVRTC at the start, in fewer passes over memory, and checked there beside libtorch's
        /// operations; refused on the CPU. A norm that is trained, or that a tuner changes, stays with libtorch. No GPU has run
        /// them yet.
        Compiled = "compiled",
    }
}

words! {
    /// Device of each rank.
    pub enum DeviceName {
        /// A GPU if there is one, else the CPU. A GPU that seems to be present but cannot be used is reported with the
        /// reason. In a job to which a scheduler allotted GPUs, the run does not start without one.
        Auto = "auto",
        /// A GPU; without one the run does not start, and the error names the reason.
        Cuda = "cuda",
        /// The CPU.
        Cpu = "cpu",
    }
}

words! {
    /// How the gradients of micro-batches are combined into the gradient of a step.
    pub enum AccumulationName {
        /// The mean over the global batch, independent of its division.
        Exact = "exact",
        /// The sum of the micro-batch means divided by the number of micro-batches in a full batch, as in LIFT's
        /// published code.
        Official = "official",
    }
}

words! {
    /// How reproducible a run is.
    pub enum Determinism {
        /// Reproducible up to rounding; the fastest.
        Fast = "fast",
        /// Bitwise reproducible on the same number of ranks.
        SameWorld = "same_world",
        /// Bitwise reproducible on any number of ranks: virtual shards are added in one fixed tree.
        AnyWorld = "any_world",
    }
}

words! {
    /// Reaction to a loss or gradient that is not finite.
    pub enum NonFinite {
        /// The run ends.
        Stop = "stop",
        /// The step is skipped.
        Skip = "skip",
        /// The run returns to the last checkpoint and skips the step.
        Rollback = "rollback",
    }
}
