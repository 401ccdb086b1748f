//! Random rows among head starts.

use crate::options::Method;

/// This start.
pub const METHOD: Method<()> =
    Method { word: "random", about: "Random rows of unit length.", official: &[], options: &[], make: () };
