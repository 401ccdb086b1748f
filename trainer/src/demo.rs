//! The embedded demo: drawn pictures, a small pretrained CLIP and its vocabulary. Nothing is read or downloaded.

use crate::data::DataError;
use crate::data::decode::RgbImage;
use crate::data::demo::{DemoSet, DemoSplit, vocabulary};
use crate::data::source::{DataSet, ImageReader, Split};
use crate::model::tokenizer::Tokenizer;
use crate::weights::{NamedTensors, WeightsError};
use std::sync::Arc;

/// Made by `examples/pretrain_demo.rs`, which says how.
static WEIGHTS: &[u8] = include_bytes!("../../assets/demo_clip.safetensors");

/// The demo's classes, labels and pictures.
pub fn data_set(seed: u64) -> DataSet {
    let set = Arc::new(DemoSet::new(seed));
    let split = |split: DemoSplit| {
        let labels = set.labels(split).to_vec();
        Split::from_parts(labels, Box::new(Drawings { set: Arc::clone(&set), split }))
    };
    DataSet { class_names: set.class_names(), train: split(DemoSplit::Train), test: split(DemoSplit::Test) }
}

/// The pretrained CLIP, in OpenAI's layout.
pub fn weights() -> Result<NamedTensors, WeightsError> {
    NamedTensors::from_bytes("the embedded demo model", WEIGHTS)
}

/// The tokenizer of the demo's text tower.
pub fn tokenizer() -> Tokenizer {
    Tokenizer::words(&vocabulary())
}

/// One split of the drawn pictures.
#[derive(Debug)]
struct Drawings {
    set: Arc<DemoSet>,
    split: DemoSplit,
}

impl ImageReader for Drawings {
    fn name(&self, index: usize) -> String {
        format!("drawing {index} of the demo")
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        let missing = || DataError::Setting(format!("the demo has no drawing {index}"));
        self.set.draw(self.split, index).ok_or_else(missing)
    }
}
