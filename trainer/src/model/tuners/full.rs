//! Full fine-tuning: every tensor of the blocks (paper, section 3). As in the official code, what lies before and after
//! the blocks stays frozen.

use super::{MakeTuner, Tuner};
use crate::model::tower::{BlockNames, Field};
use crate::options::Method;

/// Full fine-tuning.
pub const METHOD: Method<MakeTuner> = Method {
    word: "full",
    about: "Every tensor of the blocks.",
    official: &["full_tuning"],
    options: &[],
    make: |_, site| Box::new(Full { names: site.names }),
};

#[derive(Debug)]
struct Full {
    names: BlockNames,
}

impl Tuner for Full {
    fn own_tensors(&self, block: usize, fields: &[Field]) -> Vec<(Field, String)> {
        let name = |field| (field, format!("tuner.block_tuned.{block}.{}", self.names.of(field)));
        fields.iter().copied().map(name).collect()
    }
}
