//! The embedded demo: drawn pictures, a small pretrained CLIP and its vocabulary. Nothing is read or downloaded.

use crate::data::demo::vocabulary;
use crate::model::tokenizer::Tokenizer;
use crate::weights::{NamedTensors, WeightsError};

pub use crate::data::demo::demo_data_set as data_set;

/// Created by `examples/pretrain_demo.rs`.
static WEIGHTS: &[u8] = include_bytes!("../../assets/demo_clip.safetensors");

/// The pretrained CLIP, in OpenAI's layout.
pub fn weights() -> Result<NamedTensors, WeightsError> {
    NamedTensors::from_bytes("the embedded demo model", WEIGHTS)
}

/// The tokenizer of the demo's text tower.
pub fn tokenizer() -> Tokenizer {
    Tokenizer::words(&vocabulary())
}
