//! Tuners that stay modules of their own where a tuned model is exported: no weight of a block can hold their effect.

use tch::Tensor;

/// What a tuner adds to a block.
#[derive(Debug)]
pub enum TunerModule {
    /// Tokens `[prompts, width]` at the end of the block's input, in place of those of the block before.
    Prompts(Tensor),
    /// `y + bottleneck(y)`, of the MLP's output `y`.
    AfterMlp(BottleneckTensors),
    /// `bottleneck(x)` in addition to the block's output, of the hidden state `x` that the MLP's norm reads.
    BesideMlp(BottleneckTensors),
}

/// `relu(norm(x) D^T + d) U^T + u`.
#[derive(Debug)]
pub struct BottleneckTensors {
    /// Weight and bias of the norm, `[width]`.
    pub norm: (Tensor, Tensor),
    /// Its epsilon.
    pub epsilon: f64,
    /// `D`, `[inner, width]`, and `d`.
    pub down: (Tensor, Tensor),
    /// `U`, `[width, inner]`, and `u`.
    pub up: (Tensor, Tensor),
}

impl TunerModule {
    /// Its name in messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Prompts(_) => "prompts (VPT)",
            Self::AfterMlp(_) => "adapter",
            Self::BesideMlp(_) => "adaptformer",
        }
    }
}
