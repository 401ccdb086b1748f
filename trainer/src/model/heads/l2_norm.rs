//! Head with rows of unit length: `logit_c = <feature, w_c / |w_c|>`.
//!
//! Trained: `head.weight`, `[classes, width]`. The length of a feature scales all of its logits.

use super::{Classes, HEAD_WEIGHT, Head, HeadInput, HeadKind, LinearHead, MakeHead};
use crate::model::text::unit_rows;
use crate::model::trainables::{ParameterSpec, Trainables, UnknownParameter};
use crate::options::Method;
use tch::Tensor;

/// The head of unit rows.
pub const METHOD: Method<MakeHead> = Method {
    word: "l2_norm",
    about: "Inner products of features and L2-normalised class rows.",
    official: &["L2NormedClassifier"],
    options: &[],
    make: |_, _| Ok(Box::new(L2NormKind)),
};

/// The head.
#[derive(Debug, Clone, Copy)]
pub struct L2NormKind;

#[derive(Debug)]
struct L2NormHead {
    weight: Tensor,
}

impl HeadKind for L2NormKind {
    fn parameters(&self, classes: &Classes, width: i64) -> Vec<ParameterSpec> {
        classes.unit_rows(width)
    }

    fn build(&self, trainables: &Trainables) -> Result<Box<dyn Head>, UnknownParameter> {
        Ok(Box::new(L2NormHead { weight: trainables.get(HEAD_WEIGHT)? }))
    }
}

impl Head for L2NormHead {
    fn forward(&self, features: &Tensor) -> Tensor {
        features.linear(&unit_rows(&self.weight), None::<Tensor>)
    }

    fn as_linear(&self) -> LinearHead {
        LinearHead::plain(HeadInput::AsIs, &unit_rows(&self.weight))
    }
}
