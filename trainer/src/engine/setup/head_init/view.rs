//! The image view of head initialisations, a shared option.

use crate::options::{section, words};

section! {
    /// Image view of head initialisations.
    pub struct ViewOptions in "head" {
        /// View of the images that a head is initialised from.
        pub view: InitView = InitView::Auto,
    }
}

words! {
    /// View of the images that a head is initialised from.
    pub enum InitView {
        /// `test` for class means over all images, which keeps them comparable with earlier versions; `plain` for
        /// shots and the linear probe.
        Auto = "auto",
        /// The test view: the shorter side is resized to 8/7 of the model's input size, then the centre is cropped.
        Test = "test",
        /// The official code's view: the shorter side is resized to the model's input size, then the centre is
        /// cropped.
        Plain = "plain",
    }
}

impl InitView {
    /// The view that `auto` selects for an initialisation.
    #[must_use]
    pub fn or(self, of_start: Self) -> Self {
        if self == Self::Auto { of_start } else { self }
    }
}
