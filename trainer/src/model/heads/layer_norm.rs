//! Head over normalised features: `logit_c = <(feature - mean) / std, w_c / |w_c|>`, mean and standard deviation over
//! the width.
//!
//! Trained: `head.weight`, `[classes, width]`. The norm has no scale or shift of its own, and adds 1e-12 to the variance.

use super::{Classes, HEAD_WEIGHT, Head, HeadInput, HeadKind, LinearHead, MakeHead};
use crate::model::text::unit_rows;
use crate::model::trainables::{ParameterSpec, Trainables, UnknownParameter};
use crate::options::Method;
use tch::Tensor;

/// What the official code adds to the variance.
const EPSILON: f64 = 1e-12;

/// The head of unit rows over normed features.
pub const METHOD: Method<MakeHead> = Method {
    word: "layer_norm",
    about: "Inner products of layer-normalised features and L2-normalised class rows.",
    official: &["LayerNormedClassifier"],
    options: &[],
    make: |_, _| Ok(Box::new(LayerNormKind)),
};

/// The head.
#[derive(Debug, Clone, Copy)]
pub struct LayerNormKind;

#[derive(Debug)]
struct LayerNormHead {
    weight: Tensor,
}

impl HeadKind for LayerNormKind {
    fn parameters(&self, classes: &Classes, width: i64) -> Vec<ParameterSpec> {
        classes.unit_rows(width)
    }

    fn build(&self, trainables: &Trainables) -> Result<Box<dyn Head>, UnknownParameter> {
        Ok(Box::new(LayerNormHead { weight: trainables.get(HEAD_WEIGHT)? }))
    }
}

impl Head for LayerNormHead {
    fn forward(&self, features: &Tensor) -> Tensor {
        let width = self.weight.size()[1];
        let features = features.layer_norm([width], None::<Tensor>, None::<Tensor>, EPSILON, false);
        features.linear(&unit_rows(&self.weight), None::<Tensor>)
    }

    fn as_linear(&self) -> LinearHead {
        LinearHead::plain(HeadInput::ZeroMean, &unit_rows(&self.weight))
    }
}
