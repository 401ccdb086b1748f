//! One safetensors file with timm's names for every backbone, the head, and the modules of tuners.
//!
//! The position of a token before the patches is added to the token, so that `pos_embed` has only those of the patches.

use super::{ExportedFile, ExportedModel, FileContent, Tensors, single};
use crate::model::tower::BlockNames;
use crate::model::tuners::{BottleneckTensors, TunerModule};
use serde_json::json;
use std::collections::BTreeMap;

/// The file.
pub fn files(model: &ExportedModel) -> Vec<ExportedFile> {
    let mut tensors = tower_tensors(model);
    tensors.extend(model.projection.iter().map(|matrix| ("proj".to_owned(), single(matrix))));
    for (block, own) in model.blocks.iter().enumerate() {
        for (place, module) in own.modules.iter().enumerate() {
            tensors.extend(module_tensors(&format!("tuner.{block}.{place}"), module));
        }
    }
    let head = &model.head;
    tensors.push(("head.weight".to_owned(), single(&head.weight)));
    tensors.extend(head.bias.iter().map(|bias| ("head.bias".to_owned(), single(bias))));
    tensors.extend(head.projection.iter().map(|matrix| ("head.projection".to_owned(), single(matrix))));
    let metadata = BTreeMap::from([
        ("format".to_owned(), "lift".to_owned()),
        ("config".to_owned(), config(model).to_string()),
        ("class_names".to_owned(), json!(model.class_names).to_string()),
    ]);
    vec![ExportedFile { name: "model.safetensors", content: FileContent::Tensors(tensors, metadata) }]
}

/// Everything that the tensors do not determine.
pub(super) fn config(model: &ExportedModel) -> serde_json::Value {
    let (vision, pixels) = (model.config.vision, &model.config.pixels);
    json!({
        "activation": vision.activation.to_string(),
        "heads": vision.heads,
        "norm_eps": vision.norm_eps,
        "pool": model.config.pool.to_string(),
        "head_input": model.head.input.word(),
        "image_size": model.config.resolution,
        "resize": model.view.resize,
        "filter": model.view.filter,
        "mean": pixels.mean,
        "std": pixels.std,
    })
}

/// The image tower under timm's names, without projection and head.
pub(super) fn tower_tensors(model: &ExportedModel) -> Tensors {
    let (stem, width) = (&model.stem, model.shape.width);
    let mut tensors: Tensors = vec![("patch_embed.proj.weight".to_owned(), single(&stem.patches))];
    let mut add = |name: &str, tensor: &tch::Tensor| tensors.push((name.to_owned(), single(tensor)));
    if let Some(bias) = &stem.bias {
        add("patch_embed.proj.bias", bias);
    }
    if let Some(prefix) = model.prefix() {
        let class_tokens = i64::from(stem.class_token.is_some());
        if class_tokens > 0 {
            add("cls_token", &prefix.narrow(0, 0, 1).view([1, 1, width]));
        }
        if stem.registers.is_some() {
            let registers = prefix.narrow(0, class_tokens, model.shape.registers);
            add("reg_token", &registers.view([1, -1, width]));
        }
    }
    add("pos_embed", &model.patch_positions().view([1, -1, width]));
    if let Some((weight, bias)) = &stem.norm {
        add("norm_pre.weight", weight);
        add("norm_pre.bias", bias);
    }
    for (index, block) in model.blocks.iter().enumerate() {
        for (&field, tensor) in &block.tensors {
            add(&format!("blocks.{index}.{}", BlockNames::Timm.of(field)), tensor);
        }
    }
    add("norm.weight", &model.norm.0);
    add("norm.bias", &model.norm.1);
    for (name, tensor) in &model.pool {
        // The layers of the MLP of attention pooling are below `mlp`.
        let name = if name.starts_with("fc") { format!("mlp.{name}") } else { name.clone() };
        add(&format!("attn_pool.{name}"), tensor);
    }
    tensors
}

fn module_tensors(prefix: &str, module: &TunerModule) -> Tensors {
    let (kind, bottleneck) = match module {
        TunerModule::Prompts(prompts) => return vec![(format!("{prefix}.prompts"), single(prompts))],
        TunerModule::AfterMlp(bottleneck) => ("after_mlp", bottleneck),
        TunerModule::BesideMlp(bottleneck) => ("beside_mlp", bottleneck),
    };
    let BottleneckTensors { norm, down, up, .. } = bottleneck;
    let layers = [("norm", norm), ("down", down), ("up", up)];
    let of_layer = |(name, (weight, bias)): (&str, &(tch::Tensor, tch::Tensor))| {
        let name = |part: &str| format!("{prefix}.{kind}.{name}.{part}");
        [(name("weight"), single(weight)), (name("bias"), single(bias))]
    };
    layers.into_iter().flat_map(of_layer).collect()
}
