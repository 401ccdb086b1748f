//! BitFit (Ben Zaken et al., 2022): the biases of the blocks, those of the norms included.
//!
//! Official checkpoints number them over all blocks, in the order in which PyTorch lists the parameters of a block. The
//! official code takes the biases of all blocks whatever its `partial` says; here `tuner.partial` holds.

use super::{MakeTuner, Tuner};
use crate::model::tower::{BlockNames, Field};
use crate::options::Method;

/// BitFit.
pub const METHOD: Method<MakeTuner> = Method {
    word: "bias",
    about: "The biases of the blocks, including those of the layer norms (BitFit).",
    official: &["bias_tuning"],
    options: &[],
    make: |_, site| Box::new(Bias { names: site.names }),
};

#[derive(Debug)]
struct Bias {
    names: BlockNames,
}

impl Tuner for Bias {
    fn own_tensors(&self, block: usize, _: &[Field]) -> Vec<(Field, String)> {
        let biases = self.names.biases();
        let number = |place| block * biases.len() + place;
        let name = |(place, field)| (field, format!("tuner.bias_tuned.{}", number(place)));
        biases.into_iter().enumerate().map(name).collect()
    }
}
