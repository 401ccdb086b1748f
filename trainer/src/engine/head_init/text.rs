//! Text features among head starts.

use crate::model::heads::prompt::Prompt;
use crate::options::{Declared, Method};

/// This start.
pub const METHOD: Method<()> = Method {
    word: "text",
    about: "Text features of the class names.",
    official: &["text_feat"],
    options: &[&Prompt::SECTION],
    make: (),
};
