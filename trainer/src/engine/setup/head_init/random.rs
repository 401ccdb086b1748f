//! Random rows: those of a newly built head, from the seed and the rule of its kind.

use super::{HeadInit, InitContext, MakeHeadInit};
use crate::engine::failure::Failure;
use crate::options::Method;
use tch::Tensor;

/// Random rows.
pub const METHOD: Method<MakeHeadInit> = Method {
    word: "random",
    about: "Random class rows.",
    official: &[],
    options: &[],
    make: |_| Ok(Box::new(Random)),
};

/// The initialisation.
struct Random;

impl HeadInit for Random {
    fn rows(&self, _context: &InitContext<'_>) -> Result<Option<Tensor>, Failure> {
        Ok(None)
    }
}
