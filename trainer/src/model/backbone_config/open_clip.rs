//! `open_clip_config.json`. Keys that have their default may be left out of it.

use super::statement::{SidecarError, TowerWords, pixels, side};
use super::{Pool, SidecarConfig, timm};
use crate::model::layers::Activation;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Defaults of `CLIPVisionCfg` and `CLIPTextCfg`.
const WIDTH: i64 = 768;
const HEAD_WIDTH: i64 = 64;
const TEXT_HEADS: i64 = 8;

/// timm's name of the image tower, where it is one of timm's.
const TIMM_MODEL: &str = "timm_model_name";

/// Keys whose presence, other than null or false, changes what the image tower computes.
const VISION_UNSUPPORTED: [&str; 8] = [
    TIMM_MODEL,
    "attentional_pool",
    "no_ln_pre",
    "final_ln_after_pool",
    "scaled_cosine_attn",
    "scale_heads",
    "ls_init_value",
    "qk_norm",
];
/// The same for the text tower.
const TEXT_UNSUPPORTED: [&str; 7] = [
    "hf_model_name",
    "embed_cls",
    "no_causal_mask",
    "final_ln_after_pool",
    "scaled_cosine_attn",
    "ls_init_value",
    "qk_norm",
];

pub(super) fn parse(file: PathBuf, json: &Value) -> Result<SidecarConfig, SidecarError> {
    let model = &json["model_cfg"];
    let (vision, text) = (&model["vision_cfg"], &model["text_cfg"]);
    if let Some(name) = vision[TIMM_MODEL].as_str().filter(|name| name.contains("_siglip_")) {
        return siglip(&file, name, json);
    }
    refuse(&file, "vision_cfg", vision, &VISION_UNSUPPORTED)?;
    refuse(&file, "text_cfg", text, &TEXT_UNSUPPORTED)?;
    let quick = model["quick_gelu"].as_bool().unwrap_or(false);
    let width = vision["width"].as_i64().unwrap_or(WIDTH);
    let head_width = vision["head_width"].as_i64().filter(|width| *width > 0).unwrap_or(HEAD_WIDTH);
    let preprocessing = &json["preprocess_cfg"];
    Ok(SidecarConfig {
        vision: tower(&file, vision, quick, width / head_width)?,
        text: tower(&file, text, quick, text["heads"].as_i64().unwrap_or(TEXT_HEADS))?,
        pool: Some(pool(&file, vision, text)?),
        resolution: side(&vision["image_size"]),
        pixels: pixels(preprocessing, "mean", "std").map(|pixels| (pixels, file.clone())),
        width: vision["width"].as_i64(),
        layers: vision["layers"].as_i64(),
        patch: vision["patch_size"].as_i64(),
        file,
    })
}

/// A SigLIP, whose image tower is timm's; its text tower is not computed.
fn siglip(file: &Path, name: &str, json: &Value) -> Result<SidecarConfig, SidecarError> {
    let vision = &json["model_cfg"]["vision_cfg"];
    if vision["timm_pool"].as_str() != Some("map") || vision["timm_proj"].as_str() != Some("none") {
        return Err(unsupported(
            file,
            "a SigLIP with another pooling than `map`, or with a projection".to_owned(),
        ));
    }
    Ok(SidecarConfig {
        vision: timm::named(file, name)?,
        pool: Some(Pool::Attention),
        resolution: side(&vision["image_size"]),
        pixels: pixels(&json["preprocess_cfg"], "mean", "std").map(|pixels| (pixels, file.to_owned())),
        file: file.to_owned(),
        ..SidecarConfig::default()
    })
}

fn tower(file: &Path, json: &Value, quick: bool, heads: i64) -> Result<TowerWords, SidecarError> {
    let approximate = json["act_kwargs"]["approximate"].as_str().unwrap_or("none");
    let activation = match (quick, approximate) {
        (true, _) => Activation::QuickGelu,
        (false, "none") => Activation::Gelu,
        (false, "tanh") => Activation::GeluTanh,
        (false, other) => return Err(unsupported(file, format!("the activation gelu of kind `{other}`"))),
    };
    // open_clip's norms have PyTorch's epsilon.
    let norm_eps = json["norm_kwargs"]["eps"].as_f64().unwrap_or(1e-5);
    Ok(TowerWords { activation: Some(activation), heads: Some(heads), norm_eps: Some(norm_eps) })
}

fn pool(file: &Path, vision: &Value, text: &Value) -> Result<Pool, SidecarError> {
    match text["pool_type"].as_str().unwrap_or("argmax") {
        // The end token is the greatest of the vocabulary: both rules find the same one.
        "argmax" | "eos" => {}
        other => return Err(unsupported(file, format!("text pooling `{other}`"))),
    }
    match vision["pool_type"].as_str().unwrap_or("tok") {
        "tok" => Ok(Pool::Token),
        "avg" => Ok(Pool::Average),
        other => Err(unsupported(file, format!("image pooling `{other}`"))),
    }
}

fn refuse(file: &Path, part: &str, json: &Value, keys: &[&str]) -> Result<(), SidecarError> {
    let set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    match keys.iter().find(|key| json.get(**key).is_some_and(set)) {
        Some(key) => Err(unsupported(file, format!("`{part}.{key} = {}`", json[*key]))),
        None => Ok(()),
    }
}

fn unsupported(file: &Path, what: String) -> SidecarError {
    SidecarError::Unsupported { file: file.to_owned(), what }
}
