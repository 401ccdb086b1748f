//! The view in which starts look at images, an option that they share.

use crate::options::{section, words};

section! {
    /// What starts see of images.
    pub struct ViewOptions in "head" {
        /// The view in which a start looks at images.
        pub view: InitView = InitView::Auto,
    }
}

words! {
    /// Views of images that heads start from.
    pub enum InitView {
        /// `test` for class means over all images, which keeps them comparable with those of earlier versions; `plain` for
        /// shots and the linear probe.
        Auto = "auto",
        /// The view of tests: the shorter side becomes 8/7 of the model's input, the centre is cut out.
        Test = "test",
        /// The shorter side becomes the model's input, the centre is cut out; the official code starts so.
        Plain = "plain",
    }
}

impl InitView {
    /// What `auto` stands for in a start.
    #[must_use]
    pub fn or(self, of_start: Self) -> Self {
        if self == Self::Auto { of_start } else { self }
    }
}
