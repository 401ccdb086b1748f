//! The cosine classifier among the heads.

use crate::options::{Declared, Method, above, section};

section! {
    /// Options of the cosine classifier.
    pub struct Options in "head" {
        /// Factor on the cosines.
        #[range(above(0.0))]
        pub scale: f64 = 25.0,
    }
}

/// The cosine classifier.
pub const METHOD: Method<()> = Method {
    word: "cosine",
    about: "The trained cosine classifier (LIFT), on features before the projection into the joint space.",
    official: &["CosineClassifier"],
    options: &[&Options::SECTION],
    make: (),
};
