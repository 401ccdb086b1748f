//! Class means among head starts.

use crate::options::Method;

/// This start.
pub const METHOD: Method<()> = Method {
    word: "class_mean",
    about: "Mean image features of the classes, of the training images in the view of tests.",
    official: &["class_mean"],
    options: &[],
    make: (),
};
