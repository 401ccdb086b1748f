//! Configuration files beside the weights.

use super::statement::{SidecarConfig, SidecarError, TowerWords, pixels};
use super::{StatedSizes, hugging_face, open_clip, timm};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Names of configuration files, in the order of the search. Several files in one folder describe the same model in
/// several layouts.
const FILES: [&str; 2] = ["open_clip_config.json", "config.json"];
/// Hugging Face stores the preprocessing of pixels in a separate file.
const PREPROCESSOR: &str = "preprocessor_config.json";
/// Limit on the size of a configuration, which is usually a few kilobytes.
const MAX_BYTES: u64 = 4 << 20;

impl SidecarConfig {
    /// Reads the configuration that `find` locates by file name; `None` if there is none.
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

/// Reads a file in the format of the library that wrote it; `None` for an unrelated `config.json`.
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
