//! The layer norms of the blocks, weights and biases.
//!
//! Official checkpoints number them over all blocks. The official code takes the norms of all blocks whatever its `partial`
//! says; here `tuner.partial` holds.

use super::{MakeTuner, Tuner};
use crate::model::tower::Field;
use crate::options::Method;

/// The layer norms.
pub const METHOD: Method<MakeTuner> = Method {
    word: "layer_norm",
    about: "The layer norms of the blocks.",
    official: &["ln_tuning"],
    options: &[],
    make: |_, _| Box::new(LayerNorms),
};

#[derive(Debug)]
struct LayerNorms;

/// The norms of a block, in the order of the blocks' modules: weight and bias of each.
const NORMS: [[Field; 2]; 2] =
    [[Field::Norm1Weight, Field::Norm1Bias], [Field::Norm2Weight, Field::Norm2Bias]];

impl Tuner for LayerNorms {
    fn own_tensors(&self, block: usize, _: &[Field]) -> Vec<(Field, String)> {
        let number = |place| block * NORMS.len() + place;
        let of_norm = |(place, [weight, bias]): (usize, [Field; 2])| {
            let name = |what: &str| format!("tuner.ln_tuned.{}.{what}", number(place));
            [(weight, name("weight")), (bias, name("bias"))]
        };
        NORMS.into_iter().enumerate().flat_map(of_norm).collect()
    }
}
