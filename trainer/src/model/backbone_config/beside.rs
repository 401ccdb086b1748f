//! Configuration files beside the weights.

use super::{Pixels, Pool, StatedSizes, hugging_face, open_clip, timm};
use crate::model::layers::Activation;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Configuration files by name, in the order in which they are looked for. A folder that holds several describes one
/// model in several layouts.
const FILES: [&str; 2] = ["open_clip_config.json", "config.json"];
/// Hugging Face keeps what happens to pixels in a file of its own.
const PREPROCESSOR: &str = "preprocessor_config.json";
/// A configuration is a few kilobytes; more is another kind of file.
const MAX_BYTES: u64 = 4 << 20;

/// What a configuration states about the blocks of a tower.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TowerWords {
    /// Activation of the MLP.
    pub activation: Option<Activation>,
    /// Attention heads.
    pub heads: Option<i64>,
    /// Epsilon of the norms.
    pub norm_eps: Option<f64>,
}

/// What the configuration beside the weights states.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SidecarConfig {
    /// The configuration file.
    pub file: PathBuf,
    /// The image tower.
    pub vision: TowerWords,
    /// The text tower.
    pub text: TowerWords,
    /// What the features are read from.
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
        /// Why.
        reason: String,
    },
    /// It asks for something that is not computed here.
    #[error("{file}: {what} is not supported; choose another backbone")]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// What it asks for.
        what: String,
    },
    /// It belongs to other weights.
    #[error(
        "{file} describes another model than the weights beside it: {what} {expected}, in the weights {found}; keep each model in a folder of its own"
    )]
    AnotherModel {
        /// The file.
        file: PathBuf,
        /// What differs.
        what: &'static str,
        /// As the configuration says.
        expected: i64,
        /// As the weights say.
        found: i64,
    },
    /// Two configuration files contradict each other.
    #[error(
        "{one} and {other} state different things about the weights beside them ({what}); remove the one that does not belong to them"
    )]
    Disagree {
        /// One of the files.
        one: PathBuf,
        /// The other.
        other: PathBuf,
        /// What differs.
        what: &'static str,
    },
}

impl SidecarConfig {
    /// Reads the configuration that `find` finds by the name of its file; nothing where there is none.
    pub fn read(find: impl Fn(&str) -> Option<PathBuf>) -> Result<Option<Self>, SidecarError> {
        let mut found: Option<Self> = None;
        for name in FILES {
            let Some(path) = find(name) else { continue };
            let json = read_json(&path)?;
            let Some(words) = parse(path, &json)? else { continue };
            found = Some(match found {
                None => words,
                Some(first) => first.agreeing_with(words)?,
            });
        }
        let Some(mut found) = found else { return Ok(None) };
        if found.pixels.is_none()
            && let Some(path) = find(PREPROCESSOR)
        {
            let stated = pixels(&read_json(&path)?, "image_mean", "image_std");
            found.pixels = stated.map(|pixels| (pixels, path));
        }
        Ok(Some(found))
    }

    /// Refuses a configuration of another model.
    pub fn describes(&self, found: StatedSizes) -> Result<(), SidecarError> {
        for (what, expected, found) in [
            ("width", self.width, found.width),
            ("blocks", self.layers, found.layers),
            ("patches of side", self.patch, found.patch),
        ] {
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                return Err(SidecarError::AnotherModel { file: self.file.clone(), what, expected, found });
            }
        }
        Ok(())
    }

    /// This configuration, completed by another one that must not contradict it.
    fn agreeing_with(self, other: Self) -> Result<Self, SidecarError> {
        let disagree =
            |what| Err(SidecarError::Disagree { one: self.file.clone(), other: other.file.clone(), what });
        let differ = |one: TowerWords, other: TowerWords| {
            one.activation.zip(other.activation).is_some_and(|(one, other)| one != other)
                || one.heads.zip(other.heads).is_some_and(|(one, other)| one != other)
        };
        if differ(self.vision, other.vision) || differ(self.text, other.text) {
            return disagree("activation or heads");
        }
        if self.pool.zip(other.pool).is_some_and(|(one, other)| one != other) {
            return disagree("pooling");
        }
        let words = |one: TowerWords, other: TowerWords| TowerWords {
            activation: one.activation.or(other.activation),
            heads: one.heads.or(other.heads),
            norm_eps: one.norm_eps.or(other.norm_eps),
        };
        Ok(Self {
            vision: words(self.vision, other.vision),
            text: words(self.text, other.text),
            pool: self.pool.or(other.pool),
            resolution: self.resolution.or(other.resolution),
            pixels: self.pixels.or(other.pixels),
            width: self.width.or(other.width),
            layers: self.layers.or(other.layers),
            patch: self.patch.or(other.patch),
            file: self.file,
        })
    }
}

/// By the library that writes such a file; nothing for a `config.json` of something else.
fn parse(file: PathBuf, json: &Value) -> Result<Option<SidecarConfig>, SidecarError> {
    if json.get("model_cfg").is_some_and(Value::is_object) {
        open_clip::parse(file, json).map(Some)
    } else if json.get("architecture").is_some_and(Value::is_string) {
        timm::parse(file, json).map(Some)
    } else if json.get("model_type").is_some_and(Value::is_string) {
        hugging_face::parse(file, json)
    } else {
        Ok(None)
    }
}

fn read_json(path: &Path) -> Result<Value, SidecarError> {
    let error = |reason: String| SidecarError::Read { file: path.to_owned(), reason };
    let bytes = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_BYTES => std::fs::read(path),
        Ok(_) => return Err(error("it is not a small file, as configurations are".to_owned())),
        Err(reason) => Err(reason),
    };
    let bytes = bytes.map_err(|reason| error(reason.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|reason| error(format!("it is not JSON: {reason}")))
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
