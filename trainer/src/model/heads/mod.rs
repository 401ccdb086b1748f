//! Heads: from image features to one logit per class. Each file contains one head; [`Heads`] lists them.
//!
//! Tensors are named as in official checkpoints, [`HEAD_WEIGHT`] and [`HEAD_BIAS`], and have a row for each class.
//! If classes are sharded over processes, each stores its own rows, with the same initial values as without sharding.

pub mod cosine;
pub mod l2_norm;
pub mod layer_norm;
pub mod linear;
pub mod prompt;
pub mod zero_shot;

use super::trainables::{Init, ParameterSpec, RowRange, Trainables, UnknownParameter};
use crate::options::{Method, Registry, Values};
use std::fmt::Debug;
use std::ops::Range;
use tch::Tensor;

pub use zero_shot::{NoTextTower, TextClasses};

/// Constructs a head from its options, and from the text features of the classes if the head needs them.
pub type MakeHead = fn(&Values, Option<TextClasses>) -> Result<Box<dyn HeadKind>, NoTextTower>;

/// All heads, by `head.kind`.
#[derive(Debug)]
pub enum Heads {}

impl Registry for Heads {
    type Make = MakeHead;
    const KEY: &'static str = "head.kind";
    const METHODS: &'static [&'static Method<MakeHead>] =
        &[&linear::METHOD, &cosine::METHOD, &l2_norm::METHOD, &layer_norm::METHOD, &zero_shot::METHOD];
}

/// Name of the weight, as in official checkpoints: `[classes, width]`.
pub const HEAD_WEIGHT: &str = "head.weight";
/// Name of the bias, as in official checkpoints: `[classes]`.
pub const HEAD_BIAS: &str = "head.bias";

/// Maps features to one logit per class.
pub trait Head: Debug {
    /// `[n, width] -> [n, classes]`, in the kind of the features.
    fn forward(&self, features: &Tensor) -> Tensor;

    /// The same function as a linear layer behind a normalisation.
    fn as_linear(&self) -> LinearHead;

    /// Its tensors that are not trained, by name.
    fn frozen(&self) -> Vec<(&'static str, &Tensor)> {
        Vec::new()
    }
}

/// A head as a linear layer: `normalise(features projection) weight^T + bias`.
#[derive(Debug)]
pub struct LinearHead {
    /// From the features into another space first, `[width, joint]`.
    pub projection: Option<Tensor>,
    /// The normalisation of each sample.
    pub input: HeadInput,
    /// `[classes, width]`, with the scale of the head and the normalisation of its rows.
    pub weight: Tensor,
    /// `[classes]`.
    pub bias: Option<Tensor>,
}

/// How a head normalises its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadInput {
    /// Not at all.
    AsIs,
    /// To unit length.
    UnitLength,
    /// To mean 0 and variance 1 over the width, with 1e-12 added to the variance.
    ZeroMean,
}

impl HeadInput {
    /// Its word in exported files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AsIs => "none",
            Self::UnitLength => "unit_length",
            Self::ZeroMean => "zero_mean",
        }
    }
}

impl LinearHead {
    /// A head without projection and bias.
    fn plain(input: HeadInput, weight: &Tensor) -> Self {
        Self { projection: None, input, weight: weight.detach(), bias: None }
    }
}

/// A kind of head with its options: its trainable tensors, and its constructor.
pub trait HeadKind: Debug {
    /// The trainable tensors, of this process's classes; none for a head that is not trained.
    fn parameters(&self, classes: &Classes, width: i64) -> Vec<ParameterSpec>;

    /// The head over these tensors, after they were laid out.
    fn build(&self, trainables: &Trainables) -> Result<Box<dyn Head>, UnknownParameter>;
}

/// The classes, and those in the head of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// Number of classes.
    pub total: i64,
    /// Those of this process.
    pub own: Range<i64>,
}

impl Classes {
    /// All on this process.
    pub fn all(total: i64) -> Self {
        Self { total, own: 0..total }
    }

    /// Whether the classes are sharded.
    pub fn are_sharded(&self) -> bool {
        self.own != (0..self.total)
    }

    /// A trainable tensor with a `row` for each of this process's classes.
    pub fn spec(&self, name: &str, row: &[i64], init: Init) -> ParameterSpec {
        let shape = [&[self.own.end - self.own.start], row].concat();
        let spec = ParameterSpec::new(name.to_owned(), &shape, init);
        if self.are_sharded() {
            spec.of_rows(RowRange { first: self.own.start, total: self.total })
        } else {
            spec
        }
    }

    /// The weight of a head that looks at the direction of its rows alone.
    fn unit_rows(&self, width: i64) -> Vec<ParameterSpec> {
        vec![self.spec(HEAD_WEIGHT, &[width], Init::UnitRows)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn trained() -> impl Iterator<Item = (&'static str, Box<dyn HeadKind>)> {
        let made = Heads::METHODS.iter().map(|method| (method.word, (method.make)(&Values::default(), None)));
        made.filter_map(|(word, made)| Some((word, made.ok()?)))
    }

    #[test]
    fn every_head_but_zero_shot_is_trained() {
        let words: Vec<_> = trained().map(|(word, _)| word).collect();
        assert_eq!(words, ["linear", "cosine", "l2_norm", "layer_norm"]);
    }

    /// The logits of some classes, computed where only their rows are, are those of the whole head.
    #[test]
    fn law_6_a_sharded_head_starts_and_computes_as_the_whole_one() {
        let (total, width) = (7, 16);
        let features = Tensor::randn([3, width], (Kind::Double, Device::Cpu));
        for (word, kind) in trained() {
            let logits = |own: Range<i64>| {
                let classes = Classes { total, own };
                let specs = kind.parameters(&classes, width);
                let trainables = Trainables::new(specs, Kind::Double, Device::Cpu, 5);
                kind.build(&trainables).unwrap().forward(&features)
            };
            let parts = Tensor::cat(&[logits(0..3), logits(3..5), logits(5..7)], 1);
            assert!(parts.allclose(&logits(0..7), 1e-12, 1e-12, false), "{word}");
        }
    }
}
