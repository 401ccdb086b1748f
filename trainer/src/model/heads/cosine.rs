//! Cosine head (LIFT's default; Gidaris and Komodakis, "Dynamic few-shot visual learning without forgetting", 2018):
//! `logit_c = scale * cos(feature, w_c)`.
//!
//! Trained: `head.weight`, `[classes, width]`. Lengths of features and rows do not matter.

use super::{Classes, HEAD_WEIGHT, Head, HeadInput, HeadKind, LinearHead, MakeHead};
use crate::model::text::unit_rows;
use crate::model::trainables::{ParameterSpec, Trainables, UnknownParameter};
use crate::options::{Declared, Method, above, section};
use tch::Tensor;

section! {
    /// Options of the cosine head.
    pub struct CosineOptions in "head" {
        /// Scale of the cosine similarities.
        #[range(above(0.0))]
        pub scale: f64 = 25.0,
    }
}

/// The cosine head.
pub const METHOD: Method<MakeHead> = Method {
    word: "cosine",
    about: "Cosine similarity of features and class rows, times `head.scale` (LIFT).",
    official: &["CosineClassifier"],
    options: &[&CosineOptions::SECTION],
    make: |values, _| Ok(Box::new(CosineKind { scale: values.read::<CosineOptions>().scale })),
};

/// The head.
#[derive(Debug, Clone, Copy)]
pub struct CosineKind {
    /// Factor on the cosines.
    pub scale: f64,
}

#[derive(Debug)]
struct CosineHead {
    weight: Tensor,
    scale: f64,
}

impl HeadKind for CosineKind {
    fn parameters(&self, classes: &Classes, width: i64) -> Vec<ParameterSpec> {
        classes.unit_rows(width)
    }

    fn build(&self, trainables: &Trainables) -> Result<Box<dyn Head>, UnknownParameter> {
        Ok(Box::new(CosineHead { weight: trainables.get(HEAD_WEIGHT)?, scale: self.scale }))
    }
}

impl Head for CosineHead {
    fn forward(&self, features: &Tensor) -> Tensor {
        unit_rows(features).linear(&unit_rows(&self.weight), None::<Tensor>) * self.scale
    }

    fn as_linear(&self) -> LinearHead {
        LinearHead::plain(HeadInput::UnitLength, &(unit_rows(&self.weight) * self.scale))
    }
}
