//! `[backbone]`: where the frozen weights are.

use crate::options::{section, words};

section! {
    /// Placement of the frozen weights.
    pub struct BackboneOptions in "backbone" {
        /// Whether each rank holds the whole backbone or a shard of each block.
        #[resume(Free)]
        pub placement: BackbonePlacement = BackbonePlacement::Auto,
    }
}

words! {
    /// Whether each rank holds the whole backbone or a shard of each block.
    pub enum BackbonePlacement {
        /// Replicated if that fits into memory, else sharded.
        Auto = "auto",
        /// Every rank holds all blocks.
        Replicated = "replicated",
        /// Each block is sharded over all ranks, and gathered just before it is needed.
        Sharded = "sharded",
        /// Each block is sharded over the ranks of each host, and gathered within the host.
        NodeSharded = "node_sharded",
    }
}
