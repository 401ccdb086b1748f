//! Linear head: `logit_c = <feature, w_c> + b_c`.
//!
//! Trained: `head.weight`, `[classes, width]`, from a normal distribution of variance 2 / width (He et al., "Delving deep
//! into rectifiers", 2015), and `head.bias`, `[classes]`, from 0. An initialisation other than `random` replaces only the
//! rows of the weight, and these have unit length, as in the official code.

use super::{Classes, HEAD_BIAS, HEAD_WEIGHT, Head, HeadInput, HeadKind, LinearHead as AsLinear, MakeHead};
use crate::model::trainables::{Init, ParameterSpec, Trainables, UnknownParameter};
use crate::options::Method;
use tch::Tensor;

/// The linear head.
pub const METHOD: Method<MakeHead> = Method {
    word: "linear",
    about: "Linear layer: inner products of features and class rows, plus a bias.",
    official: &["LinearClassifier"],
    options: &[],
    make: |_, _| Ok(Box::new(LinearKind)),
};

/// The head.
#[derive(Debug, Clone, Copy)]
pub struct LinearKind;

#[derive(Debug)]
struct LinearHead {
    weight: Tensor,
    bias: Tensor,
}

impl HeadKind for LinearKind {
    fn parameters(&self, classes: &Classes, width: i64) -> Vec<ParameterSpec> {
        let std = (2.0 / width as f64).sqrt();
        vec![
            classes.spec(HEAD_WEIGHT, &[width], Init::NormalRows { std }),
            classes.spec(HEAD_BIAS, &[], Init::Zeros),
        ]
    }

    fn build(&self, trainables: &Trainables) -> Result<Box<dyn Head>, UnknownParameter> {
        let (weight, bias) = (trainables.get(HEAD_WEIGHT)?, trainables.get(HEAD_BIAS)?);
        Ok(Box::new(LinearHead { weight, bias }))
    }
}

impl Head for LinearHead {
    fn forward(&self, features: &Tensor) -> Tensor {
        features.linear(&self.weight, Some(&self.bias))
    }

    fn as_linear(&self) -> AsLinear {
        AsLinear { bias: Some(self.bias.detach()), ..AsLinear::plain(HeadInput::AsIs, &self.weight) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn the_weight_starts_with_the_variance_of_the_official_rule_and_the_bias_at_zero() {
        let (classes, width) = (200, 128);
        let specs = LinearKind.parameters(&Classes::all(classes), width);
        let trainables = Trainables::new(specs, Kind::Double, Device::Cpu, 3);
        let weight = trainables.get(HEAD_WEIGHT).unwrap().detach();
        let variance = (&weight * &weight).mean(Kind::Double).double_value(&[]);
        assert!((variance * width as f64 / 2.0 - 1.0).abs() < 0.03, "variance {variance}");
        assert!(weight.mean(Kind::Double).double_value(&[]).abs() < 0.005);
        assert_eq!(trainables.get(HEAD_BIAS).unwrap().abs().max().double_value(&[]), 0.0);
        assert_ne!(weight.get(0), weight.get(1));
    }
}
