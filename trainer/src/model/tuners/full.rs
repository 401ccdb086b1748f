//! Full fine-tuning: every tensor of the blocks (paper, section 3). As in the official code, what lies before and after
//! the blocks stays frozen.

use super::{Tuner, TunerMethod};
use crate::model::tower::{BlockNames, Field};

/// In the registry.
pub const METHOD: TunerMethod = TunerMethod {
    word: "full",
    about: "Every tensor of the blocks.",
    official: Some("full_tuning"),
    build: |settings| Ok(Box::new(Full { names: settings.names })),
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
