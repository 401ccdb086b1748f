//! `config.json` of timm: the architecture's name, its arguments where they differ from that name's, and what the
//! weights were trained with.

use super::statement::{SidecarError, TowerWords, activation, pixels, side};
use super::{Pool, SidecarConfig};
use crate::model::layers::Activation;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Width and heads of timm's sizes, by the word in the architecture's name.
const SIZES: [(&str, i64, i64); 13] = [
    ("tiny", 192, 3),
    ("small", 384, 6),
    ("medium", 512, 8),
    ("betwixt", 640, 10),
    ("base", 768, 12),
    ("large", 1024, 16),
    ("huge", 1280, 16),
    ("giant", 1408, 16),
    ("gigantic", 1664, 16),
    ("xsmall", 288, 6),
    ("so150m", 896, 14),
    ("so400m", 1152, 16),
    ("giantopt", 1536, 16),
];

/// Prefixes of the names of architectures with `gelu_tanh`; the other SigLIP towers of timm have exact GELU, even if
/// other libraries use another activation with the same weights.
const GELU_TANH: [&str; 5] = [
    "vit_base_patch32_siglip_",
    "vit_large_patch16_siglip_512",
    "vit_large_patch16_siglip_gap_512",
    "vit_so400m_patch16_siglip_",
    "vit_giantopt_patch16_siglip_",
];

/// Arguments that change the computation of the tower without a change of its tensors.
const UNSUPPORTED: [&str; 3] = ["pool_include_prefix", "scale_attn_norm", "attn_pool"];

/// The properties that follow from timm's name of an architecture, without overrides.
pub(super) fn named(file: &Path, architecture: &str) -> Result<TowerWords, SidecarError> {
    tower(file, architecture, &Value::Null)
}

fn tower(file: &Path, architecture: &str, arguments: &Value) -> Result<TowerWords, SidecarError> {
    let clip = architecture.contains("_clip_");
    Ok(TowerWords {
        activation: Some(named_activation(file, architecture, arguments)?),
        heads: arguments["num_heads"].as_i64().or(size(architecture).map(|(.., heads)| *heads)),
        norm_eps: Some(if clip { 1e-5 } else { 1e-6 }),
    })
}

fn size(architecture: &str) -> Option<&'static (&'static str, i64, i64)> {
    SIZES.iter().find(|(word, ..)| architecture.split('_').any(|part| part == *word))
}

pub(super) fn parse(file: PathBuf, json: &Value) -> Result<SidecarConfig, SidecarError> {
    let architecture = json["architecture"].as_str().unwrap_or_default();
    let (arguments, trained) = (&json["model_args"], &json["pretrained_cfg"]);
    if let Some(key) = UNSUPPORTED.iter().find(|key| arguments[**key].as_bool() == Some(true)) {
        return Err(unsupported(&file, format!("`{key}`")));
    }
    let width = arguments["embed_dim"].as_i64().or(size(architecture).map(|(_, width, _)| *width));
    Ok(SidecarConfig {
        vision: tower(&file, architecture, arguments)?,
        pool: pool(&file, json, arguments)?,
        resolution: side(&arguments["img_size"]).or_else(|| side(&trained["input_size"])),
        pixels: pixels(trained, "mean", "std").map(|pixels| (pixels, file.clone())),
        width,
        layers: arguments["depth"].as_i64(),
        patch: arguments["patch_size"].as_i64(),
        text: TowerWords::default(),
        file,
    })
}

fn named_activation(file: &Path, architecture: &str, arguments: &Value) -> Result<Activation, SidecarError> {
    match &arguments["act_layer"] {
        Value::String(name) => activation(file, name),
        Value::Null if architecture.contains("quickgelu") => Ok(Activation::QuickGelu),
        Value::Null if GELU_TANH.iter().any(|name| architecture.starts_with(name)) => {
            Ok(Activation::GeluTanh)
        }
        Value::Null => Ok(Activation::Gelu),
        other => Err(unsupported(file, format!("the activation {other}"))),
    }
}

fn pool(file: &Path, json: &Value, arguments: &Value) -> Result<Option<Pool>, SidecarError> {
    match arguments["global_pool"].as_str().or(json["global_pool"].as_str()) {
        None => Ok(None),
        Some("token") => Ok(Some(Pool::Token)),
        Some("avg") => Ok(Some(Pool::Average)),
        Some("map") => Ok(Some(Pool::Attention)),
        Some(other) => Err(unsupported(file, format!("image pooling `{other}`"))),
    }
}

fn unsupported(file: &Path, what: String) -> SidecarError {
    SidecarError::Unsupported { file: file.to_owned(), what }
}
