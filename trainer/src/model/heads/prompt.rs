//! How class names become text, options of all that reads text features.

use crate::options::{OrFile, none_of, one_of, section, words};

section! {
    /// How class names become text.
    pub struct Prompt in "head" {
        /// Prompts of a class. A JSON file gives descriptions of every class: `{"name": ["text", ...], ...}`.
        #[needs(none_of("model.kind", &["vit"]).documented_elsewhere())]
        pub prompts: OrFile<Prompts> = OrFile::Word(Prompts::Default),
        /// Prompt template with one `{}` for the class name.
        #[range(|prompt| prompt.matches("{}").count() == 1, "a sentence with one {} for the class name")]
        #[needs(none_of("model.kind", &["vit"]).documented_elsewhere(), one_of("head.prompts", &["default"]))]
        pub prompt: String = "a photo of a {}.".to_owned(),
    }
}

words! {
    /// Prompts of a class.
    pub enum Prompts {
        /// The template `head.prompt`.
        Default = "default",
        /// The class name alone.
        Classname = "classname",
        /// The 80 ImageNet templates of CLIP's authors; the features of a class are averaged.
        Ensemble = "ensemble",
    }
}
