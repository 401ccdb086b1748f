//! What the rows of a trained head start from. One start a file, with its options; [`HeadInits`] names them all.

pub mod auto;
pub mod class_mean;
pub mod random;
pub mod text;

use crate::options::{Chosen, Method, Registry};

/// All starts, by `head.init`.
#[derive(Debug)]
pub enum HeadInits {}

impl Registry for HeadInits {
    type Make = ();
    const KEY: &'static str = "head.init";
    const METHODS: &'static [&'static Method<()>] =
        &[&auto::METHOD, &text::METHOD, &class_mean::METHOD, &random::METHOD];
}

impl Chosen<HeadInits> {
    /// What `auto` stands for.
    #[must_use]
    pub fn resolve(self, has_text_tower: bool) -> Self {
        match self.is(&auto::METHOD) {
            true if has_text_tower => Self::of(&text::METHOD),
            true => Self::of(&class_mean::METHOD),
            false => self,
        }
    }
}
