//! The sentence around a class name, an option of all that reads text features.

use crate::options::{none_of, section};

section! {
    /// How class names become text.
    pub struct Prompt in "head" {
        /// Sentence around a class name, with one `{}` for it.
        #[range(|prompt| prompt.matches("{}").count() == 1, "a sentence with one {} for the class name")]
        #[needs(none_of("model.kind", &["vit"]).documented_elsewhere())]
        pub prompt: String = "a photo of a {}.".to_owned(),
    }
}
