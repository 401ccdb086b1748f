//! Zero-shot classification among the heads.

use super::prompt::Prompt;
use crate::options::{Declared, Method};

/// Zero-shot classification.
pub const METHOD: Method<()> = Method {
    word: "zero_shot",
    about: "Text features in the joint space; nothing is trained.",
    official: &["CLIP_Text"],
    options: &[&Prompt::SECTION],
    make: (),
};
