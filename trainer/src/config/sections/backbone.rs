//! `[backbone]`: where the frozen weights are.

use crate::options::{section, words};

section! {
    /// Where the frozen weights are.
    pub struct BackboneOptions in "backbone" {
        /// Whether each rank holds the whole backbone or a part of each block.
        #[resume(Free)]
        pub placement: BackbonePlacement = BackbonePlacement::Auto,
    }
}

words! {
    /// Whether each rank holds the whole backbone or a part of each block.
    pub enum BackbonePlacement {
        /// Replicated where that fits into memory, else sharded.
        Auto = "auto",
        /// Every rank holds all blocks.
        Replicated = "replicated",
        /// The ranks hold each block in parts, and gather a block just before it is needed.
        Sharded = "sharded",
        /// The ranks of each host hold each block in parts among them.
        NodeSharded = "node_sharded",
    }
}
