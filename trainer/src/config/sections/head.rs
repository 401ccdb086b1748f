//! `[head]`: the classifier and its start.

use super::super::section::{section, words};

section! {
    /// The classifier, and the values it starts from.
    pub struct Head in "head" {
        /// Which classifier.
        pub kind: HeadKind,
        /// Factor on the cosines. Takes effect with `head.kind = "cosine"`.
        pub scale: f64,
        /// What the rows start from. Takes effect with `head.kind = "cosine"`.
        pub init: HeadInit,
        /// Sentence around a class name, with one `{}` for it. Takes effect where text features are used.
        pub prompt: String,
        /// Whether each rank holds all classes or its share of them. Takes effect with `head.kind = "cosine"`.
        pub placement: HeadPlacement,
    }
}

words! {
    /// Classifiers.
    pub enum HeadKind {
        /// The trained cosine classifier (LIFT), on features before the projection into the joint space.
        Cosine = "cosine",
        /// Text features in the joint space; nothing is trained.
        ZeroShot = "zero_shot",
    }
}

words! {
    /// What the rows of the classifier start from.
    pub enum HeadInit {
        /// `text` if the model has a text tower, else `class_mean`.
        Auto = "auto",
        /// Text features of the class names.
        Text = "text",
        /// Mean image features of the classes, of the training images in the view of tests.
        ClassMean = "class_mean",
        /// Random rows of unit length.
        Random = "random",
    }
}

impl HeadInit {
    /// What `auto` stands for.
    #[must_use]
    pub const fn resolve(self, has_text_tower: bool) -> Self {
        match self {
            Self::Auto if has_text_tower => Self::Text,
            Self::Auto => Self::ClassMean,
            other => other,
        }
    }
}

words! {
    /// Whether each rank holds all classes or its share of them.
    pub enum HeadPlacement {
        /// Whichever sends fewer bytes a step.
        Auto = "auto",
        /// Every rank holds all classes.
        Replicated = "replicated",
        /// Each rank holds its share of the classes, and sees the features of all samples.
        Sharded = "sharded",
    }
}
