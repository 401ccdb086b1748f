//! A folder that `timm.create_model("local-dir:FOLDER")` loads.
//!
//! timm's `VisionTransformer` has all parts of our towers. Its classifier is a linear layer: a head without a
//! normalisation is put there, any other head is a file of its own.

use super::plain::tower_tensors;
use super::{ExportError, ExportedFile, ExportedModel, FileContent, single};
use crate::model::backbone_config::Pool;
use crate::model::heads::HeadInput;
use serde_json::json;
use std::collections::BTreeMap;

const FORMAT: &str = "timm";

/// The files.
pub fn files(model: &ExportedModel) -> Result<Vec<ExportedFile>, ExportError> {
    model.without_modules(FORMAT)?;
    let is_clip = model.stem.norm.is_some();
    // timm sets the epsilon by architecture.
    let (architecture, epsilon) =
        if is_clip { ("vit_base_patch16_clip_224", 1e-5) } else { ("vit_base_patch16_224", 1e-6) };
    if model.config.vision.norm_eps != epsilon {
        return Err(ExportError::Backbone {
            format: FORMAT,
            expected: format!("norms with the epsilon {epsilon:e}"),
            found: format!("{:e}", model.config.vision.norm_eps),
            instead: super::HOLDS_EVERY_TUNER,
        });
    }
    let head = &model.head;
    let is_classifier = head.input == HeadInput::AsIs && head.projection.is_none();
    let mut tensors = tower_tensors(model);
    if is_classifier {
        let bias = head.bias.as_ref().map_or_else(|| head.weight.select(1, 0).zeros_like(), single);
        tensors.push(("head.weight".to_owned(), single(&head.weight)));
        tensors.push(("head.bias".to_owned(), single(&bias)));
    }
    let classes = if is_classifier { model.class_names.len() } else { 0 };
    let config = ExportedFile {
        name: "config.json",
        content: FileContent::Json(config(model, architecture, classes)),
    };
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let weights =
        ExportedFile { name: "model.safetensors", content: FileContent::Tensors(tensors, metadata) };
    let mut files = vec![config, weights];
    if !is_classifier {
        files.push(model.head_file());
    }
    Ok(files)
}

fn config(model: &ExportedModel, architecture: &str, classes: usize) -> serde_json::Value {
    let (shape, vision, size) = (&model.shape, model.config.vision, model.config.resolution);
    let pool = match model.config.pool {
        Pool::Token => "token",
        Pool::Average => "avg",
        Pool::Attention => "map",
    };
    let mut arguments = json!({
        "img_size": size,
        "patch_size": shape.patch,
        "embed_dim": shape.width,
        "depth": shape.layers,
        "num_heads": vision.heads,
        "mlp_ratio": shape.hidden as f64 / shape.width as f64,
        "act_layer": vision.activation.to_string(),
        "class_token": model.stem.class_token.is_some(),
        "reg_tokens": shape.registers,
        "no_embed_class": true,
        "global_pool": pool,
        "fc_norm": false,
    });
    if model.blocks.iter().any(|block| block.tensors.contains_key(&crate::model::tower::Field::Scale1)) {
        arguments["init_values"] = json!(1.0);
    }
    json!({
        "architecture": architecture,
        "num_classes": classes,
        "num_features": shape.width,
        "global_pool": pool,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "fixed_input_size": true,
            "interpolation": model.view.filter,
            "crop_pct": f64::from(size) / f64::from(model.view.resize),
            "mean": model.config.pixels.mean,
            "std": model.config.pixels.std,
            "num_classes": classes,
            "pool_size": null,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "label_names": model.class_names,
        },
    })
}
