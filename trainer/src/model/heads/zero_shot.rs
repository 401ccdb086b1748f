//! Zero-shot head (CLIP as it is): `logit_c = scale * cos(feature * projection, text_c)`, in the space that image and text
//! share.
//!
//! Nothing is trained: projection, texts and scale are the backbone's.

use super::prompt::Prompt;
use super::{Classes, Head, HeadInput, HeadKind, LinearHead, MakeHead};
use crate::model::text::unit_rows;
use crate::model::trainables::{ParameterSpec, Trainables, UnknownParameter};
use crate::options::{Declared, Method};
use tch::Tensor;

/// Zero-shot classification.
pub const METHOD: Method<MakeHead> = Method {
    word: "zero_shot",
    about: "Text features in CLIP's joint space; nothing is trained.",
    official: &[],
    options: &[&Prompt::SECTION],
    make: |_, text| Ok(Box::new(ZeroShotKind(text.ok_or(NoTextTower)?))),
};

/// Zero-shot needs the joint space of image and text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "zero-shot classification needs a CLIP model; this backbone has no text tower\nhint: choose another --method"
)]
pub struct NoTextTower;

/// The classes as texts, in the joint space of a CLIP model.
#[derive(Debug)]
pub struct TextClasses {
    /// From features to the joint space, `[width, joint]`.
    pub projection: Tensor,
    /// Unit rows, `[classes, joint]`.
    pub text: Tensor,
    /// Factor on the cosines.
    pub scale: Tensor,
}

/// The head.
#[derive(Debug)]
pub struct ZeroShotKind(pub TextClasses);

impl HeadKind for ZeroShotKind {
    fn parameters(&self, _classes: &Classes, _width: i64) -> Vec<ParameterSpec> {
        Vec::new()
    }

    fn build(&self, _trainables: &Trainables) -> Result<Box<dyn Head>, UnknownParameter> {
        let TextClasses { projection, text, scale } = &self.0;
        let (projection, text) = (projection.shallow_clone(), text.shallow_clone());
        Ok(Box::new(Self(TextClasses { projection, text, scale: scale.shallow_clone() })))
    }
}

impl Head for ZeroShotKind {
    fn forward(&self, features: &Tensor) -> Tensor {
        let TextClasses { projection, text, scale } = &self.0;
        unit_rows(&features.matmul(projection)).matmul(&text.transpose(0, 1)) * scale
    }

    fn as_linear(&self) -> LinearHead {
        let TextClasses { projection, text, scale } = &self.0;
        let plain = LinearHead::plain(HeadInput::UnitLength, &(text * scale));
        LinearHead { projection: Some(projection.detach()), ..plain }
    }

    fn frozen(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("head.text", &self.0.text), ("head.scale", &self.0.scale)]
    }
}
