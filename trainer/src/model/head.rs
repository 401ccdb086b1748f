//! Classifiers over image features.

use super::text::unit_rows;
use super::trainables::{Init, ParameterSpec, Rows};
use std::ops::Range;
use tch::Tensor;

/// What turns features into one logit a class.
#[derive(Debug)]
pub enum Head {
    /// LIFT's classifier: `scale * cos(feature, row)`; rows are `[classes, width]`.
    Cosine {
        /// Class weights, trained.
        weight: Tensor,
        /// Factor on the cosines.
        scale: f64,
    },
    /// CLIP as it is: cosines in the space shared with text.
    ZeroShot {
        /// `[width, joint]`.
        projection: Tensor,
        /// Unit rows, `[classes, joint]`.
        text: Tensor,
        /// Factor on the cosines.
        scale: Tensor,
    },
}

/// The classes, and those of them that the head of this process holds.
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

    /// Whether other processes hold some of them.
    pub fn are_divided(&self) -> bool {
        self.own != (0..self.total)
    }
}

/// Name of the cosine head's weight, as in official checkpoints.
pub const HEAD_WEIGHT: &str = "head.weight";

impl Head {
    /// The cosine head's trainable tensor: a row for each of this process's classes.
    pub fn cosine_spec(classes: &Classes, width: i64) -> ParameterSpec {
        let own = &classes.own;
        let spec = ParameterSpec::new(HEAD_WEIGHT.to_owned(), &[own.end - own.start, width], Init::UnitRows);
        if classes.are_divided() {
            spec.of_rows(Rows { first: own.start, total: classes.total })
        } else {
            spec
        }
    }

    /// `[n, width] -> [n, classes]`, in the kind of the features.
    pub fn forward(&self, features: &Tensor) -> Tensor {
        match self {
            Self::Cosine { weight, scale } => {
                unit_rows(features).linear(&unit_rows(weight), None::<Tensor>) * *scale
            }
            Self::ZeroShot { projection, text, scale } => {
                unit_rows(&features.matmul(projection)).matmul(&text.transpose(0, 1)) * scale
            }
        }
    }
}

/// Rows of the cosine head from text features (LIFT, "semantic-aware initialisation"): brought back to the
/// width of the features by the transposed projection, then scaled to unit length.
pub fn rows_from_text(text: &Tensor, projection: &Tensor) -> Tensor {
    unit_rows(&unit_rows(text).matmul(&projection.transpose(0, 1)))
}

/// Rows of the cosine head from the mean feature of each class, scaled to unit length.
pub fn rows_from_means(sums: &Tensor, counts: &Tensor) -> Tensor {
    unit_rows(&(sums / counts.view([-1, 1])))
}
