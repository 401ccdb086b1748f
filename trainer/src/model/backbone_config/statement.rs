//! The statements of a configuration file beside the weights, in a library-independent form, and the parsing of its
//! values.

use super::{Pixels, Pool};
use crate::model::layers::Activation;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The statements of a configuration about the blocks of a tower.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TowerWords {
    /// Activation of the MLP.
    pub activation: Option<Activation>,
    /// Attention heads.
    pub heads: Option<i64>,
    /// Epsilon of the norms.
    pub norm_eps: Option<f64>,
}

/// The statements of the configuration beside the weights.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SidecarConfig {
    /// The configuration file.
    pub file: PathBuf,
    /// The image tower.
    pub vision: TowerWords,
    /// The text tower.
    pub text: TowerWords,
    /// The pooling.
    pub pool: Option<Pool>,
    /// Side of the images in pixels.
    pub resolution: Option<u32>,
    /// Mean and standard deviation of the pixels, and the file that states them.
    pub pixels: Option<(Pixels, PathBuf)>,
    /// Width of the image tower.
    pub width: Option<i64>,
    /// Blocks of the image tower.
    pub layers: Option<i64>,
    /// Side of a patch in pixels.
    pub patch: Option<i64>,
}

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// It cannot be read.
    #[error("{file} lies beside the weights and cannot be read: {reason}")]
    Read {
        /// The file.
        file: PathBuf,
        /// The reason.
        reason: String,
    },
    /// It requires an unsupported property.
    #[error("{file}: {what} is not supported\nhint: choose another backbone")]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The unsupported property.
        what: String,
    },
    /// It belongs to other weights.
    #[error(
        "{file} describes another model than the weights beside it: {what} {expected}, in the weights {found}\nhint: keep each model in a folder of its own"
    )]
    AnotherModel {
        /// The file.
        file: PathBuf,
        /// The property that differs.
        what: &'static str,
        /// The value in the configuration.
        expected: i64,
        /// The value in the weights.
        found: i64,
    },
    /// Two configuration files contradict each other.
    #[error(
        "{one} and {other} state different things about the weights beside them ({what})\nhint: remove the one that does not belong to them"
    )]
    Disagree {
        /// One of the files.
        one: PathBuf,
        /// The second one.
        other: PathBuf,
        /// The property that differs.
        what: &'static str,
    },
}

/// Two lists of three numbers.
pub(super) fn pixels(json: &Value, mean: &str, std: &str) -> Option<Pixels> {
    let three = |key: &str| -> Option<[f64; 3]> {
        let numbers: Option<Vec<f64>> = json.get(key)?.as_array()?.iter().map(Value::as_f64).collect();
        numbers?.try_into().ok()
    };
    Some(Pixels { mean: three(mean)?, std: three(std)? })
}

/// A side in pixels: a number, `[height, width]`, or `[channels, height, width]`.
pub(super) fn side(json: &Value) -> Option<u32> {
    let side = match json {
        Value::Array(sides) => {
            let (last, rest) = sides.split_last()?;
            if rest.last().is_some_and(|other| other != last) {
                return None;
            }
            last.as_u64()?
        }
        number => number.as_u64()?,
    };
    side.try_into().ok()
}

/// The activation of that name in the libraries.
pub(super) fn activation(file: &Path, name: &str) -> Result<Activation, SidecarError> {
    match name {
        "gelu" => Ok(Activation::Gelu),
        "quick_gelu" | "quickgelu" => Ok(Activation::QuickGelu),
        "gelu_tanh" | "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        other => Err(SidecarError::Unsupported {
            file: file.to_owned(),
            what: format!("the activation `{other}`"),
        }),
    }
}
