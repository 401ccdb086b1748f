//! The default head initialisation.

use super::{MakeHeadInit, choose, view};
use crate::model::heads::prompt::Prompt;
use crate::options::{Declared, Method};

/// The initialisation.
pub const METHOD: Method<MakeHeadInit> = Method {
    word: "auto",
    about: "`text` if the model has a text tower, else `class_mean`.",
    official: &[],
    options: &[&Prompt::SECTION, &view::ViewOptions::SECTION],
    make: |config| choose(config, config.model.kind.has_text_tower()),
};
