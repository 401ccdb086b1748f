//! How class names become text, options of all that reads text features.

use crate::options::{OrFile, none_of, one_of, section, words};

section! {
    /// How class names become text.
    pub struct Prompt in "head" {
        /// Texts of a class. A file holds descriptions of every class, as JSON: `{"name": ["text", ...], ...}`.
        #[needs(none_of("model.kind", &["vit"]).documented_elsewhere())]
        pub prompts: OrFile<Prompts> = OrFile::Word(Prompts::Default),
        /// Sentence around a class name, with one `{}` for it.
        #[range(|prompt| prompt.matches("{}").count() == 1, "a sentence with one {} for the class name")]
        #[needs(none_of("model.kind", &["vit"]).documented_elsewhere(), one_of("head.prompts", &["default"]))]
        pub prompt: String = "a photo of a {}.".to_owned(),
    }
}

words! {
    /// Texts of a class.
    pub enum Prompts {
        /// The sentence `head.prompt`.
        Default = "default",
        /// The class name alone.
        Classname = "classname",
        /// The 80 sentences that CLIP's authors use for ImageNet; a class is the mean of their features.
        Ensemble = "ensemble",
    }
}
