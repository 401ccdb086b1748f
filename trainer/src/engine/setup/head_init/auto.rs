//! The default among head starts.

use super::{MakeHeadInit, choose, view};
use crate::model::heads::prompt::Prompt;
use crate::options::{Declared, Method};

/// This start.
pub const METHOD: Method<MakeHeadInit> = Method {
    word: "auto",
    about: "`text` if the model has a text tower, else `class_mean`.",
    official: &[],
    options: &[&Prompt::SECTION, &view::ViewOptions::SECTION],
    make: |config| choose(config, config.model.kind.has_text_tower()),
};
