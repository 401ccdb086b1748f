//! Cosine head (LIFT's default; Gidaris and Komodakis, "Dynamic few-shot visual learning without forgetting", 2018):
//! `logit_c = scale * cos(feature, w_c)`.
//!
//! Trained: `head.weight`, `[classes, width]`. Lengths of features and rows do not matter.

use super::{Classes, HEAD_WEIGHT, Head, HeadEntry, HeadKind};
use crate::model::text::unit_rows;
use crate::model::trainables::{ParameterSpec, Trainables, UnknownParameter};
use tch::Tensor;

pub(super) const ENTRY: HeadEntry = HeadEntry {
    word: "cosine",
    about: "Cosines of features and class rows, times `head.scale` (LIFT's).",
    official: Some("CosineClassifier"),
    make: |options| Ok(Box::new(Cosine { scale: options.scale })),
};

/// The kind.
#[derive(Debug, Clone, Copy)]
pub struct Cosine {
    /// Factor on the cosines.
    pub scale: f64,
}

#[derive(Debug)]
struct CosineHead {
    weight: Tensor,
    scale: f64,
}

impl HeadKind for Cosine {
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
}
