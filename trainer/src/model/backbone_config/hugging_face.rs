//! `config.json` of Hugging Face's transformers. Keys that have their default are left out of it.

use super::SidecarConfig;
use super::statement::{SidecarError, TowerWords, activation, side};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Defaults of a configuration class.
struct Defaults {
    activation: &'static str,
    heads: i64,
    norm_eps: f64,
}

/// `CLIPVisionConfig`.
const CLIP_VISION: Defaults = Defaults { activation: "quick_gelu", heads: 12, norm_eps: 1e-5 };
/// `CLIPTextConfig`; what concerns images is not read.
const CLIP_TEXT: Defaults = Defaults { heads: 8, ..CLIP_VISION };
/// `ViTConfig`.
const VIT: Defaults = Defaults { activation: "gelu", norm_eps: 1e-12, ..CLIP_VISION };
/// `Dinov2Config` and `Dinov2WithRegistersConfig`.
const DINOV2: Defaults = Defaults { norm_eps: 1e-6, ..VIT };
/// `SiglipVisionConfig`.
const SIGLIP_VISION: Defaults = Defaults { activation: "gelu_pytorch_tanh", norm_eps: 1e-6, ..CLIP_VISION };

/// Its statements; `None` for an unsupported kind of model, whose weights are refused by their tensor names.
pub(super) fn parse(file: PathBuf, json: &Value) -> Result<Option<SidecarConfig>, SidecarError> {
    let empty = Value::Null;
    let of = |keys: [&str; 2]| keys.iter().find_map(|key| json.get(*key).filter(|part| part.is_object()));
    match json["model_type"].as_str().unwrap_or_default() {
        "clip" => {
            let vision = of(["vision_config", "vision_config_dict"]).unwrap_or(&empty);
            let text = of(["text_config", "text_config_dict"]).unwrap_or(&empty);
            let text = tower(&file, text, &CLIP_TEXT)?;
            Ok(Some(SidecarConfig { text, ..image_tower(file, vision, &CLIP_VISION)? }))
        }
        "clip_vision_model" => {
            let vision = of(["vision_config", "vision_config_dict"]).unwrap_or(json);
            image_tower(file, vision, &CLIP_VISION).map(Some)
        }
        "vit" => image_tower(file, json, &VIT).map(Some),
        "dinov2" | "dinov2_with_registers" => image_tower(file, json, &DINOV2).map(Some),
        "siglip" | "siglip_vision_model" => {
            let vision = of(["vision_config", "vision_config_dict"]).unwrap_or(json);
            image_tower(file, vision, &SIGLIP_VISION).map(Some)
        }
        _ => Ok(None),
    }
}

fn image_tower(file: PathBuf, json: &Value, defaults: &Defaults) -> Result<SidecarConfig, SidecarError> {
    if json["use_swiglu_ffn"] == true {
        return Err(SidecarError::Unsupported { file, what: "`use_swiglu_ffn`".to_owned() });
    }
    // Sizes are compared where they are stated; the tensors have them in any case.
    let number = |key: &str| json.get(key).and_then(Value::as_i64);
    Ok(SidecarConfig {
        vision: tower(&file, json, defaults)?,
        width: number("hidden_size"),
        layers: number("num_hidden_layers"),
        patch: number("patch_size"),
        resolution: json.get("image_size").and_then(side),
        file,
        ..SidecarConfig::default()
    })
}

fn tower(file: &Path, json: &Value, defaults: &Defaults) -> Result<TowerWords, SidecarError> {
    let name = json.get("hidden_act").and_then(Value::as_str).unwrap_or(defaults.activation);
    Ok(TowerWords {
        activation: Some(activation(file, name)?),
        heads: Some(json.get("num_attention_heads").and_then(Value::as_i64).unwrap_or(defaults.heads)),
        norm_eps: Some(json.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(defaults.norm_eps)),
    })
}
