//! The embedded demo: drawn pictures, a small pretrained CLIP and its vocabulary. Nothing is read or downloaded.

use crate::data::demo::vocabulary;
use crate::model::tokenizer::Tokenizer;
use crate::weights::{NamedTensors, WeightsError};

pub use crate::data::demo::{demo_data_set as data_set, styled_data_set};

/// The first version's model. Old runs need it.
static PATCH_4: &[u8] = include_bytes!("../../assets/demo_clip.safetensors");

/// Created by `examples/pretrain_demo.rs`.
static PATCH_8: &[u8] = include_bytes!("../../assets/demo_clip_patch8.safetensors");

/// The pretrained CLIP of the first version, with patches of 4 pixels, in OpenAI's layout.
pub fn weights() -> Result<NamedTensors, WeightsError> {
    NamedTensors::from_bytes("the embedded demo model", PATCH_4)
}

/// The pretrained CLIP with patches of 8 pixels, in OpenAI's layout.
pub fn patch8_weights() -> Result<NamedTensors, WeightsError> {
    NamedTensors::from_bytes("the embedded demo model `patch8`", PATCH_8)
}

/// The tokenizer of the demo's text tower.
pub fn tokenizer() -> Tokenizer {
    Tokenizer::words(&vocabulary())
}
