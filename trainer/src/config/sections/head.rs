//! `[head]`: the classifier and its start. The options of single heads and starts stand in their files.

use crate::engine::setup::head_init::{HeadInits, auto, text};
use crate::model::heads::{Heads, cosine, zero_shot};
use crate::options::{Chosen, Needs, OrFile, none_of, section, words};

/// Something is trained. Many options need it, so `docs/configuration.md` says it once, at its head.
pub(super) const TRAINED: Needs = none_of("head.kind", &["zero_shot"]).documented_elsewhere();

section! {
    /// The classifier and its initialisation.
    pub struct HeadOptions in "head" {
        /// Type of the classifier.
        pub kind: Chosen<Heads> = Chosen::of(&cosine::METHOD),
        /// Initialisation of the class rows. A file is a safetensors file or an official checkpoint with
        /// `head.weight` (or `weight`).
        #[needs(TRAINED)]
        pub init: OrFile<Chosen<HeadInits>> = OrFile::Word(Chosen::of(&auto::METHOD)),
        /// Whether each rank holds all classes or a shard of them.
        #[needs(TRAINED)]
        #[resume(Free)]
        pub placement: HeadPlacement = HeadPlacement::Auto,
    }
}

impl HeadOptions {
    /// Text features are used, as the head or as its start.
    pub fn uses_text(&self, has_text_tower: bool) -> bool {
        let starts_from_text = match &self.init {
            OrFile::Word(init) => init.resolve(has_text_tower).is(&text::METHOD),
            OrFile::File(_) => false,
        };
        !self.is_trained() || starts_from_text
    }

    /// It has tensors to train.
    pub fn is_trained(&self) -> bool {
        !self.kind.is(&zero_shot::METHOD)
    }
}

words! {
    /// Whether each rank holds all classes or a shard of them.
    pub enum HeadPlacement {
        /// The placement that sends fewer bytes per step.
        Auto = "auto",
        /// Every rank holds all classes.
        Replicated = "replicated",
        /// Each rank holds a shard of the classes and receives the features of all samples.
        Sharded = "sharded",
    }
}
