//! `[head]`: the classifier and its start.

use super::super::kind::WordOrFile;
use super::super::section::{section, words};

section! {
    /// The classifier, and the values it starts from.
    pub struct Head in "head" {
        /// Which classifier.
        pub kind: HeadKind,
        /// Factor on the cosines. Takes effect with `head.kind = "cosine"`.
        pub scale: f64,
        /// What the rows start from; a file is a safetensors file or an official checkpoint with `head.weight` (or
        /// `weight`). Images are seen in the plain view: resized by the shorter side to `model.resolution`, the centre
        /// cut out. Takes effect unless `head.kind = "zero_shot"`.
        pub init: WordOrFile<HeadInit>,
        /// Training images of each class, at most, whose means the rows are. Takes effect with `head.init = "shots"`.
        pub shots: u32,
        /// Texts of a class; a file holds descriptions of every class, as JSON: `{"name": ["text", ...], ...}`. Takes
        /// effect where text features are used.
        pub prompts: WordOrFile<Prompts>,
        /// Sentence around a class name, with one `{}` for it. Takes effect where text features are used, with
        /// `head.prompts = "default"`.
        pub prompt: String,
        /// Whether each rank holds all classes or its share of them. Takes effect unless `head.kind = "zero_shot"`.
        pub placement: HeadPlacement,
    }
}

words! {
    /// Classifiers.
    pub enum HeadKind {
        /// Inner products of features and class rows, plus a bias.
        Linear = "linear",
        /// Cosines of features and class rows, times `head.scale` (LIFT's).
        Cosine = "cosine",
        /// Inner products of features and class rows scaled to unit length.
        L2Norm = "l2_norm",
        /// Inner products of layer-normed features and class rows scaled to unit length.
        LayerNorm = "layer_norm",
        /// Text features in the joint space; nothing is trained.
        ZeroShot = "zero_shot",
    }
}

impl HeadKind {
    /// Whether it has tensors to train.
    #[must_use]
    pub fn is_trained(self) -> bool {
        self != Self::ZeroShot
    }
}

words! {
    /// What the rows of the classifier start from.
    pub enum HeadInit {
        /// `text` if the model has a text tower, else `class_mean`.
        Auto = "auto",
        /// Text features of the class names.
        Text = "text",
        /// Mean image features of the classes, over all training images.
        ClassMean = "class_mean",
        /// Mean image features of the classes, over `head.shots` training images of each, which the seed chooses.
        Shots = "shots",
        /// The weights of a logistic regression over the features of all training images, classes balanced.
        LinearProbe = "linear_probe",
        /// Random rows.
        Random = "random",
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

impl Head {
    /// What the rows start from, with the word that `auto` stands for.
    #[must_use]
    pub fn resolved_init(&self, has_text_tower: bool) -> WordOrFile<HeadInit> {
        match self.init {
            WordOrFile::Word(HeadInit::Auto) if has_text_tower => WordOrFile::Word(HeadInit::Text),
            WordOrFile::Word(HeadInit::Auto) => WordOrFile::Word(HeadInit::ClassMean),
            ref other => other.clone(),
        }
    }

    /// Whether text features are used, as the head or as its start.
    #[must_use]
    pub fn uses_text(&self, has_text_tower: bool) -> bool {
        let starts_from_text = self.resolved_init(has_text_tower) == WordOrFile::Word(HeadInit::Text);
        self.kind == HeadKind::ZeroShot || starts_from_text
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
