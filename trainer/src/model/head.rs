//! Classifiers over image features.

use super::text::unit_rows;
use super::trainables::{Init, ParameterSpec};
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

/// Name of the cosine head's weight, as in official checkpoints.
pub const HEAD_WEIGHT: &str = "head.weight";

impl Head {
    /// The cosine head's trainable tensor.
    pub fn cosine_spec(classes: i64, width: i64) -> ParameterSpec {
        ParameterSpec::new(HEAD_WEIGHT.to_owned(), &[classes, width], Init::UnitRows)
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
