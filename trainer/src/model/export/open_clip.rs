//! A folder that `open_clip.create_model("local-dir:FOLDER")` loads: the whole CLIP, whose image tower is the tuned one.
//! The head reads the features before the projection (`visual.proj = None`) and is a file of its own.

use super::hf_clip::must_be_clip;
use super::{ExportError, ExportedFile, ExportedModel, FileContent, Tensors, single};
use crate::model::backbone_config::TowerConfig;
use crate::model::layers::Activation;
use crate::model::loading::has_text;
use crate::model::tower::BlockNames;
use crate::weights::NamedTensors;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tch::Tensor;

const FORMAT: &str = "open-clip";
/// Epsilon of every norm of `open_clip`.
const EPSILON: f64 = 1e-5;

/// The files; the text tower is that of the backbone's file.
pub fn files(model: &ExportedModel, backbone: &NamedTensors) -> Result<Vec<ExportedFile>, ExportError> {
    model.without_modules(FORMAT)?;
    must_be_clip(model, FORMAT)?;
    let texts = model.config.text.filter(|_| has_text(backbone)).zip(model.projection.as_ref());
    let Some((text, projection)) = texts else {
        return Err(refused("a CLIP with its text tower", "an image tower alone".to_owned()));
    };
    fits(model.config.vision, text)?;
    let mut tensors = image_tower(model);
    tensors.push(("visual.proj".to_owned(), single(projection)));
    tensors.extend(text_tower(backbone));
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let config = FileContent::Json(config(model, text, backbone));
    let weights = FileContent::Tensors(tensors, metadata);
    Ok(vec![
        ExportedFile { name: "open_clip_config.json", content: config },
        ExportedFile { name: "open_clip_model.safetensors", content: weights },
        model.head_file(),
    ])
}

fn refused(expected: &str, found: String) -> ExportError {
    let instead = "--format hf-clip, timm, safetensors or onnx";
    ExportError::Backbone { format: FORMAT, expected: expected.to_owned(), found, instead }
}

/// Refuses properties that `open_clip` has no configuration for.
fn fits(vision: TowerConfig, text: TowerConfig) -> Result<(), ExportError> {
    if vision.activation != text.activation || vision.activation == Activation::GeluTanh {
        let found = format!("{} and {}", vision.activation, text.activation);
        return Err(refused("quick_gelu in both towers or gelu in both", found));
    }
    if vision.norm_eps != EPSILON {
        let expected = format!("norms with the epsilon {EPSILON:e}");
        return Err(refused(&expected, format!("{:e}", vision.norm_eps)));
    }
    Ok(())
}

fn config(model: &ExportedModel, text: TowerConfig, backbone: &NamedTensors) -> Value {
    let (shape, vision) = (&model.shape, model.config.vision);
    let size = |name: &str, at: usize| backbone.get(name).map_or(0, |tensor| tensor.size()[at]);
    json!({
        "model_cfg": {
            "embed_dim": shape.joint,
            "quick_gelu": vision.activation == Activation::QuickGelu,
            "vision_cfg": {
                "image_size": model.config.resolution,
                "layers": shape.layers,
                "width": shape.width,
                "head_width": shape.width / vision.heads,
                "mlp_ratio": shape.hidden as f64 / shape.width as f64,
                "patch_size": shape.patch,
            },
            "text_cfg": {
                "context_length": size("positional_embedding", 0),
                "vocab_size": size("token_embedding.weight", 0),
                "width": size("token_embedding.weight", 1),
                "heads": text.heads,
                "layers": backbone.names().filter(|name| is_norm_of_text_block(name)).count(),
            },
        },
        "preprocess_cfg": {
            "size": model.config.resolution,
            "mean": model.config.pixels.mean,
            "std": model.config.pixels.std,
            "interpolation": model.view.filter,
            "resize_mode": "shortest",
        },
    })
}

fn is_norm_of_text_block(name: &str) -> bool {
    name.starts_with("transformer.resblocks.") && name.ends_with(".ln_1.weight")
}

fn image_tower(model: &ExportedModel) -> Tensors {
    let stem = &model.stem;
    let mut tensors = Tensors::new();
    let mut add = |name: &str, tensor: &Tensor| tensors.push((format!("visual.{name}"), single(tensor)));
    if let Some(token) = &stem.class_token {
        add("class_embedding", token);
    }
    add("conv1.weight", &stem.patches);
    add("positional_embedding", &stem.positions);
    for (name, norm) in [("ln_pre", stem.norm.as_ref()), ("ln_post", Some(&model.norm))] {
        if let Some((weight, bias)) = norm {
            add(&format!("{name}.weight"), weight);
            add(&format!("{name}.bias"), bias);
        }
    }
    for (index, block) in model.blocks.iter().enumerate() {
        for (&field, tensor) in &block.tensors {
            add(&format!("transformer.resblocks.{index}.{}", BlockNames::OpenAi.of(field)), tensor);
        }
    }
    tensors
}

/// Integer buffers of OpenAI's archives belong to no tower.
fn text_tower(backbone: &NamedTensors) -> Tensors {
    let of_text = backbone.names().filter(|name| !name.starts_with("visual."));
    let of_text =
        of_text.filter(|name| !matches!(*name, "input_resolution" | "context_length" | "vocab_size"));
    of_text.filter_map(|name| Some((name.to_owned(), single(backbone.get(name).ok()?)))).collect()
}
