//! The default among head starts.

use crate::model::heads::prompt::Prompt;
use crate::options::{Declared, Method};

/// This start.
pub const METHOD: Method<()> = Method {
    word: "auto",
    about: "`text` if the model has a text tower, else `class_mean`.",
    official: &[],
    options: &[&Prompt::SECTION],
    make: (),
};
