//! Heads. One a file, with its options; [`Heads`] names them all.

pub mod cosine;
pub mod prompt;
pub mod zero_shot;

use crate::options::{Method, Registry};

/// All heads, by `head.kind`.
#[derive(Debug)]
pub enum Heads {}

impl Registry for Heads {
    type Make = ();
    const KEY: &'static str = "head.kind";
    const METHODS: &'static [&'static Method<()>] = &[&cosine::METHOD, &zero_shot::METHOD];
}
