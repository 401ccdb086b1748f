//! A folder that transformers loads: `CLIPVisionModelWithProjection`, or `CLIPVisionModel` for an image tower alone. Its
//! `pooler_output` is the input of the head, which is a file of its own.

use super::{ExportError, ExportedFile, ExportedModel, FileContent, Tensors, single, thirds};
use crate::model::layers::Activation;
use crate::model::tower::Field;
use serde_json::json;
use std::collections::BTreeMap;

const FORMAT: &str = "hf-clip";

/// The files.
pub fn files(model: &ExportedModel) -> Result<Vec<ExportedFile>, ExportError> {
    model.without_modules(FORMAT)?;
    must_be_clip(model, FORMAT)?;
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(vec![
        ExportedFile { name: "config.json", content: FileContent::Json(config(model)) },
        ExportedFile { name: "preprocessor_config.json", content: FileContent::Json(view(model)) },
        ExportedFile { name: "model.safetensors", content: FileContent::Tensors(tensors(model), metadata) },
        model.head_file(),
    ])
}

/// Refuses a backbone that is not the image tower of a CLIP.
pub(super) fn must_be_clip(model: &ExportedModel, format: &'static str) -> Result<(), ExportError> {
    if model.stem.norm.is_some() && model.stem.class_token.is_some() {
        return Ok(());
    }
    Err(ExportError::Backbone {
        format,
        expected: "the image tower of a CLIP".to_owned(),
        found: "a ViT without a norm before its blocks".to_owned(),
        instead: "--format timm, safetensors or onnx",
    })
}

fn config(model: &ExportedModel) -> serde_json::Value {
    let (shape, vision) = (&model.shape, model.config.vision);
    let activation = match vision.activation {
        Activation::QuickGelu => "quick_gelu",
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
    };
    let class = if model.projection.is_some() { "CLIPVisionModelWithProjection" } else { "CLIPVisionModel" };
    json!({
        "architectures": [class],
        "model_type": "clip_vision_model",
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": vision.heads,
        "num_channels": 3,
        "image_size": model.config.resolution,
        "patch_size": shape.patch,
        "hidden_act": activation,
        "layer_norm_eps": vision.norm_eps,
        "projection_dim": if shape.joint > 0 { shape.joint } else { shape.width },
        "dtype": "float32",
        "id2label": model.class_names.iter().enumerate()
            .map(|(class, name)| (class.to_string(), json!(name))).collect::<serde_json::Map<_, _>>(),
    })
}

fn view(model: &ExportedModel) -> serde_json::Value {
    // Numbers of Pillow's filters.
    let resample = if model.view.filter == "bicubic" { 3 } else { 2 };
    let size = model.config.resolution;
    json!({
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": true,
        "do_resize": true,
        "size": {"shortest_edge": model.view.resize},
        "resample": resample,
        "do_center_crop": true,
        "crop_size": {"height": size, "width": size},
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": model.config.pixels.mean,
        "image_std": model.config.pixels.std,
    })
}

fn tensors(model: &ExportedModel) -> Tensors {
    let stem = &model.stem;
    let mut tensors = Tensors::new();
    let mut add = |name: String, tensor: &tch::Tensor| tensors.push((name, single(tensor)));
    let embeddings = "vision_model.embeddings";
    if let Some(token) = &stem.class_token {
        add(format!("{embeddings}.class_embedding"), token);
    }
    add(format!("{embeddings}.patch_embedding.weight"), &stem.patches);
    add(format!("{embeddings}.position_embedding.weight"), &stem.positions);
    for (name, norm) in [("pre_layrnorm", stem.norm.as_ref()), ("post_layernorm", Some(&model.norm))] {
        if let Some((weight, bias)) = norm {
            add(format!("vision_model.{name}.weight"), weight);
            add(format!("vision_model.{name}.bias"), bias);
        }
    }
    for (index, block) in model.blocks.iter().enumerate() {
        for (&field, tensor) in &block.tensors {
            let prefix = format!("vision_model.encoder.layers.{index}");
            let (Field::QkvWeight | Field::QkvBias) = field else {
                add(format!("{prefix}.{}", part(field)), tensor);
                continue;
            };
            let kind = if field == Field::QkvWeight { "weight" } else { "bias" };
            for (name, third) in ["q", "k", "v"].into_iter().zip(thirds(tensor)) {
                add(format!("{prefix}.self_attn.{name}_proj.{kind}"), &third);
            }
        }
    }
    if let Some(projection) = &model.projection {
        add("visual_projection.weight".to_owned(), &projection.transpose(0, 1));
    }
    tensors
}

/// Name of a tensor of a layer; the image tower of a CLIP has no layer scales.
fn part(field: Field) -> &'static str {
    match field {
        Field::Norm1Weight => "layer_norm1.weight",
        Field::Norm1Bias => "layer_norm1.bias",
        Field::ProjWeight => "self_attn.out_proj.weight",
        Field::ProjBias => "self_attn.out_proj.bias",
        Field::Norm2Weight => "layer_norm2.weight",
        Field::Norm2Bias => "layer_norm2.bias",
        Field::Fc1Weight => "mlp.fc1.weight",
        Field::Fc1Bias => "mlp.fc1.bias",
        Field::Fc2Weight => "mlp.fc2.weight",
        Field::Fc2Bias => "mlp.fc2.bias",
        Field::QkvWeight => "self_attn.in_proj.weight",
        Field::QkvBias => "self_attn.in_proj.bias",
        Field::Scale1 => "layer_scale1.lambda1",
        Field::Scale2 => "layer_scale2.lambda1",
    }
}
