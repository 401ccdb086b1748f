//! A folder that `open_clip.create_model("local-dir:FOLDER")` loads: the whole CLIP, whose image tower is the tuned one.
//! The head reads the features before the projection (`visual.proj = None`) and is a file of its own.

use super::hf_clip::must_be_clip;
use super::{ExportError, ExportedFile, ExportedModel, FileContent, Tensors, single};
use crate::model::layers::Activation;
use crate::model::loading::has_text;
use crate::model::tower::BlockNames;
use crate::weights::NamedTensors;
use serde_json::json;
use std::collections::BTreeMap;
use tch::Tensor;

const FORMAT: &str = "open-clip";

/// The files; the text tower is that of the backbone's file.
pub fn files(model: &ExportedModel, backbone: &NamedTensors) -> Result<Vec<ExportedFile>, ExportError> {
    model.without_modules(FORMAT)?;
    must_be_clip(model, FORMAT)?;
    let refuse = |expected: &str, found: String| ExportError::Backbone {
        format: FORMAT,
        expected: expected.to_owned(),
        found,
        instead: "--format hf-clip, timm, safetensors or onnx",
    };
    let (Some(text), Some(projection)) = (model.config.text, &model.projection) else {
        return Err(refuse("a CLIP with its text tower", "an image tower alone".to_owned()));
    };
    if !has_text(backbone) {
        return Err(refuse("a CLIP with its text tower", "an image tower alone".to_owned()));
    }
    let vision = model.config.vision;
    let is_quick = vision.activation == Activation::QuickGelu;
    if vision.activation != text.activation || vision.activation == Activation::GeluTanh {
        let found = format!("{} and {}", vision.activation, text.activation);
        return Err(refuse("quick_gelu in both towers or gelu in both", found));
    }
    if vision.norm_eps != 1e-5 {
        return Err(refuse("norms with the epsilon 1e-5", format!("{:e}", vision.norm_eps)));
    }
    let size = |name: &str, at: usize| backbone.get(name).map_or(0, |tensor| tensor.size()[at]);
    let text_layers = backbone.names().filter(|name| is_norm_of_text_block(name)).count();
    let config = json!({
        "model_cfg": {
            "embed_dim": model.shape.joint,
            "quick_gelu": is_quick,
            "vision_cfg": {
                "image_size": model.config.resolution,
                "layers": model.shape.layers,
                "width": model.shape.width,
                "head_width": model.shape.width / vision.heads,
                "mlp_ratio": model.shape.hidden as f64 / model.shape.width as f64,
                "patch_size": model.shape.patch,
            },
            "text_cfg": {
                "context_length": size("positional_embedding", 0),
                "vocab_size": size("token_embedding.weight", 0),
                "width": size("token_embedding.weight", 1),
                "heads": text.heads,
                "layers": text_layers,
            },
        },
        "preprocess_cfg": {
            "size": model.config.resolution,
            "mean": model.config.pixels.mean,
            "std": model.config.pixels.std,
            "interpolation": model.view.filter,
            "resize_mode": "shortest",
        },
    });
    let mut tensors = image_tower(model);
    tensors.push(("visual.proj".to_owned(), single(projection)));
    tensors.extend(text_tower(backbone));
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(vec![
        ExportedFile { name: "open_clip_config.json", content: FileContent::Json(config) },
        ExportedFile {
            name: "open_clip_model.safetensors",
            content: FileContent::Tensors(tensors, metadata),
        },
        model.head_file(),
    ])
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
