//! An adapter of PEFT for the same CLIP in transformers' names (`CLIPVisionModel` or `CLIPVisionModelWithProjection`): the
//! factors of LoRA, or the scales of IA3, unfolded. The head is a file of its own.

use super::hf_clip::must_be_clip;
use super::{ExportError, ExportedFile, ExportedModel, FileContent, Tensors, single};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

const INSTEAD: &str = "use --format hf-clip, timm or open-clip for tuners that are folded into the weights, and --format safetensors or onnx for all others";

/// A trained tensor of an adapter, where PEFT has it.
struct AdapterTensor {
    block: usize,
    module: &'static str,
    name: &'static str,
    tensor: Tensor,
}

/// The files; `trained` are the tensors of the run before they were folded, `base` is the backbone's file.
pub fn files(
    model: &ExportedModel,
    trained: &[(String, Tensor)],
    base: &str,
) -> Result<Vec<ExportedFile>, ExportError> {
    must_be_clip(model, "peft")?;
    let tuned = trained.iter().filter(|(name, _)| name.starts_with("tuner."));
    let found: Vec<_> = tuned.map(|(name, tensor)| (name.as_str(), placed(name, tensor))).collect();
    let foreign = found.iter().find(|(_, placed)| placed.is_none());
    let is_lora = |name: &str| name.starts_with("tuner.lora");
    let mixed = found.iter().any(|(name, _)| is_lora(name)) && found.iter().any(|(name, _)| !is_lora(name));
    if found.is_empty() || foreign.is_some() || mixed {
        return Err(ExportError::Adapter { found: kinds(&found), instead: INSTEAD });
    }
    let adapter: Vec<AdapterTensor> = found.into_iter().filter_map(|(_, placed)| placed).collect();
    let tensors: Tensors = adapter.iter().map(|own| (full_name(own), single(&own.tensor))).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(vec![
        ExportedFile { name: "adapter_config.json", content: FileContent::Json(config(&adapter, base)) },
        ExportedFile { name: "adapter_model.safetensors", content: FileContent::Tensors(tensors, metadata) },
        model.head_file(),
    ])
}

/// The lists of tuner tensors among the names, for a message.
fn kinds(found: &[(&str, Option<AdapterTensor>)]) -> String {
    let lists: BTreeSet<&str> = found.iter().filter_map(|(name, _)| name.split('.').nth(1)).collect();
    if lists.is_empty() { "none".to_owned() } else { lists.into_iter().collect::<Vec<_>>().join(", ") }
}

/// Where PEFT has a trained tensor. It stores factors as linear layers, `[out, in]`, the transpose of ours.
fn placed(name: &str, tensor: &Tensor) -> Option<AdapterTensor> {
    let (list, rest) = name.strip_prefix("tuner.")?.split_once('.')?;
    let (block, part) = rest.split_once('.')?;
    let block = block.parse().ok()?;
    let (module, name, tensor) = match (list, part) {
        ("lora_list", "q.lora_A") => ("self_attn.q_proj", "lora_A.weight", tensor.tr()),
        ("lora_list", "q.lora_B") => ("self_attn.q_proj", "lora_B.weight", tensor.tr()),
        ("lora_list", "v.lora_A") => ("self_attn.v_proj", "lora_A.weight", tensor.tr()),
        ("lora_list", "v.lora_B") => ("self_attn.v_proj", "lora_B.weight", tensor.tr()),
        ("lora_mlp_list", "1.lora_A") => ("mlp.fc1", "lora_A.weight", tensor.tr()),
        ("lora_mlp_list", "1.lora_B") => ("mlp.fc1", "lora_B.weight", tensor.tr()),
        ("lora_mlp_list", "2.lora_A") => ("mlp.fc2", "lora_A.weight", tensor.tr()),
        ("lora_mlp_list", "2.lora_B") => ("mlp.fc2", "lora_B.weight", tensor.tr()),
        ("ia3_list", "k") => ("self_attn.k_proj", "ia3_l", tensor.view([-1, 1])),
        ("ia3_list", "v") => ("self_attn.v_proj", "ia3_l", tensor.view([-1, 1])),
        ("ia3_list", "hidden") => ("mlp.fc2", "ia3_l", tensor.view([1, -1])),
        _ => return None,
    };
    Some(AdapterTensor { block, module, name, tensor })
}

fn full_name(own: &AdapterTensor) -> String {
    format!("base_model.model.vision_model.encoder.layers.{}.{}.{}", own.block, own.module, own.name)
}

fn config(adapter: &[AdapterTensor], base: &str) -> Value {
    let modules: BTreeSet<&str> = adapter.iter().filter_map(|own| own.module.rsplit('.').next()).collect();
    let blocks: BTreeSet<usize> = adapter.iter().map(|own| own.block).collect();
    let down = adapter.iter().find(|own| own.name == "lora_A.weight");
    match down {
        Some(down) => json!({
            "peft_type": "LORA",
            "base_model_name_or_path": base,
            "inference_mode": true,
            "bias": "none",
            "r": down.tensor.size()[0],
            // The factor of the update is 1 / r.
            "lora_alpha": 1,
            "lora_dropout": 0.0,
            "target_modules": modules,
            "layers_to_transform": blocks,
            "layers_pattern": "layers",
        }),
        // PEFT has no choice of layers here, so the names are a pattern.
        None => json!({
            "peft_type": "IA3",
            "base_model_name_or_path": base,
            "inference_mode": true,
            "target_modules": pattern(&blocks, "(k_proj|v_proj|fc2)"),
            "feedforward_modules": pattern(&blocks, "fc2"),
        }),
    }
}

fn pattern(blocks: &BTreeSet<usize>, modules: &str) -> String {
    let blocks: Vec<String> = blocks.iter().map(usize::to_string).collect();
    format!(".*\\.layers\\.({})\\..*{modules}", blocks.join("|"))
}
