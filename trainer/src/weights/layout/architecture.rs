//! Detects unsupported models, and names their architecture.

use super::{NamedTensors, TensorLayout, WeightsError};
use crate::pickle::printable;
use serde_json::Value;

/// The remedy for an unsupported model.
const OTHERS: &str =
    "give a CLIP with a vision transformer, or a ViT, DINOv2 or SigLIP of timm or Hugging Face";

/// Parts of names, and the architectures that have them. The first that is found decides.
const SIGNS: &[(&str, &str)] = &[
    ("lora_A.", "LoRA adapters without or beside their model"),
    ("base_layer.", "a model with adapters of PEFT in it"),
    ("language_model.", "a vision-language model (LLaVA and its like)"),
    ("query_tokens", "a BLIP-2"),
    ("self_attn.qkv.", "a BLIP"),
    ("box_head.", "an OWL-ViT, a detector"),
    ("text_model.roberta.", "an AltCLIP, whose text tower is a RoBERTa"),
    ("text_model.encoder.layer.0.", "a CLIP whose text tower is a BERT (Chinese CLIP)"),
    ("attnpool.", "a CLIP with a ResNet as its image tower (RN50 and its like)"),
    ("visual.attn_pool.", "a CLIP with attention pooling (CoCa, PE)"),
    ("attn_pool.q_norm.", "a ViT whose attention pooling normalises its query"),
    ("text_decoder.", "a CoCa, a CLIP with a text decoder"),
    ("text.cls_emb", "a CoCa, a CLIP with a class token of texts"),
    ("visual.trunk.blocks.0.attn.q_proj.", "an EVA-02 CLIP of open_clip"),
    ("visual.trunk.stages.", "a CLIP of open_clip with a ConvNeXt or another staged image tower"),
    ("visual.trunk.cls_token", "a CLIP of open_clip with an image tower of timm's"),
    ("visual.head.", "a CLIP of open_clip with an image tower of timm's"),
    ("text.transformer.embeddings.", "a CLIP of open_clip with a text tower of Hugging Face's"),
    ("visual.blocks.0.attn.q_bias", "an EVA CLIP"),
    ("visual.blocks.0.attn.q_proj.", "an EVA-02 CLIP"),
    ("layers.0.blocks.0.attn.cpb_mlp.", "a Swin transformer v2"),
    ("layers.0.blocks.0.", "a Swin transformer"),
    ("features.1.0.attn.relative_position_bias_table", "a Swin transformer of torchvision"),
    ("dist_token", "a DeiT with a distillation token"),
    ("distillation_token", "a DeiT with a distillation token"),
    ("storage_tokens", "a DINOv3, a ViT with rotary positions"),
    ("embeddings.patch_embeddings.weight", "a DINOv3, a ViT with rotary positions"),
    ("mlp.weights_in.", "a ViT with SwiGLU (DINOv2 giant)"),
    ("relative_position_bias_table", "a BEiT, a ViT with relative positions"),
    ("attn.rel_pos.", "a ViT with relative positions"),
    ("attn.q_bias", "a BEiT or an EVA"),
    ("lambda_1", "a BEiT, a ViT with layer scale"),
    ("attn.rope.", "an EVA-02, a ViT with rotary positions"),
    ("mlp.fc1_g.", "an EVA-02, a ViT with SwiGLU"),
    ("mlp.w1.", "a ViT with SwiGLU (EVA-02, DINOv2 giant)"),
    ("mlp.w12.", "a ViT with SwiGLU (DINOv2 giant)"),
    ("blocks_token_only.", "a CaiT"),
    ("blocks.0.gamma_1", "a BEiT or a DINOv3, a ViT with layer scale"),
    ("ls_1.gamma", "a CLIP with layer scale"),
    ("attn.q_norm.", "a ViT that normalises queries and keys (qk_norm)"),
    ("fc_norm.weight", "a ViT that pools by the mean of its patches (fc_norm: MAE, EVA, BEiT)"),
    ("decoder_pos_embed", "a masked autoencoder (MAE) with its decoder"),
    ("patch_embed.backbone.", "a hybrid of ResNet and ViT"),
    ("conv_proj.weight", "a ViT of torchvision"),
    ("stages.0.blocks.0.conv_dw.", "a ConvNeXt"),
    ("dwconv.weight", "a ConvNeXt"),
    ("layer1.0.conv1.weight", "a ResNet"),
    ("embedder.embedder.convolution.", "a ResNet"),
    ("conv_stem.weight", "an EfficientNet or MobileNet"),
    ("word_embeddings.weight", "a language model"),
];

/// Refuses a model whose tensor names show another architecture.
pub(super) fn refuse_by_names(tensors: &NamedTensors) -> Result<(), WeightsError> {
    let trained = |name: &str| name.starts_with("tuner.") || name.starts_with("head.");
    if tensors.names().all(trained) {
        return Err(WeightsError::Architecture {
            file: tensors.file(),
            architecture: "tensors that LIFT trained, without their backbone",
            named: String::new(),
            remedy: "give the backbone they were trained on, and this file as --weights of `eval`",
        });
    }
    match SIGNS.iter().find(|(sign, _)| tensors.names().any(|name| has(name, sign))) {
        Some((_, architecture)) => Err(refusal(tensors, architecture)),
        None => Ok(()),
    }
}

/// Whether `part` is in a name, beginning where a part of the name begins.
fn has(name: &str, part: &str) -> bool {
    name.match_indices(part).any(|(at, _)| at == 0 || name.as_bytes()[at - 1] == b'.')
}

/// Refuses a model that lacks a required part or has it in another form. The tensors have their new names.
pub(super) fn refuse_by_structure(tensors: &NamedTensors, layout: TensorLayout) -> Result<(), WeightsError> {
    let lacks = |name: &str| !tensors.contains(name);
    let found = match layout {
        TensorLayout::TimmVit if positions_alone(tensors) => {
            "a ViT whose class token has no position (no_embed_class, as in DeiT-3)"
        }
        TensorLayout::TimmVit if is_gated(tensors) => "a ViT with SwiGLU (DINOv2 giant)",
        TensorLayout::TimmVit
            if tensors.get("patch_embed.proj.weight").is_ok_and(|patches| patches.dim() == 2) =>
        {
            "a SigLIP 2 for images of any shape (NaFlex)"
        }
        TensorLayout::TimmVit if lacks("blocks.0.attn.qkv.bias") && !lacks("blocks.0.attn.qkv.weight") => {
            "a ViT whose queries, keys and values have no bias (qkv_bias=False)"
        }
        TensorLayout::TimmVit if lacks("patch_embed.proj.bias") => "a ViT whose patches have no bias",
        TensorLayout::TimmVit if lacks("pos_embed") => "a ViT without learned positions",
        TensorLayout::OpenAiClip if lacks("visual.ln_pre.weight") => {
            "a CLIP without a norm before its first block"
        }
        TensorLayout::OpenAiClip if !lacks("patch_embed.proj.bias") => {
            "a ViT with a norm before its first block"
        }
        _ => return Ok(()),
    };
    Err(refusal(tensors, found))
}

/// Whether there are as many positions as patches, without one for the class token, as in a DINOv2 with registers.
fn positions_alone(tensors: &NamedTensors) -> bool {
    if tensors.contains("reg_token") || !tensors.contains("cls_token") {
        return false;
    }
    let is_square = |n: i64| n > 0 && n.isqrt().pow(2) == n;
    let shape = tensors.get("pos_embed").map(tch::Tensor::size).unwrap_or_default();
    matches!(shape[..], [1, n, _] if is_square(n) && !is_square(n - 1))
}

/// Whether the MLP's first product gives twice what its second one takes: a gate and what it lets through.
fn is_gated(tensors: &NamedTensors) -> bool {
    let side = |name: &str, axis: usize| Some(*tensors.get(name).ok()?.size().get(axis)?);
    let (first, second) = (side("blocks.0.mlp.fc1.weight", 0), side("blocks.0.mlp.fc2.weight", 1));
    first.zip(second).is_some_and(|(first, second)| first == 2 * second)
}

/// The error for names that match no rule.
pub(super) fn unknown(tensors: &NamedTensors) -> WeightsError {
    if tensors.names().any(|name| has(name, "text_model.embeddings.") || has(name, "token_embedding.weight"))
    {
        return refusal(tensors, "a text tower without an image tower that is known");
    }
    let has_all = |parts: [&str; 2]| parts.iter().all(|part| tensors.names().any(|name| has(name, part)));
    if has_all(["patch_embed.proj.weight", "pos_embed"]) {
        return refusal(tensors, "a ViT without a class token that pools by the mean (SigLIP with `gap`)");
    }
    let found = tensors.names().take(3).map(|n| format!("`{}`", printable(n))).collect::<Vec<_>>().join(", ");
    WeightsError::Layout { file: tensors.file(), named: named(tensors), found }
}

fn refusal(tensors: &NamedTensors, architecture: &'static str) -> WeightsError {
    WeightsError::Architecture { file: tensors.file(), architecture, named: named(tensors), remedy: OTHERS }
}

/// The name of the model in the configuration beside the weights.
fn named(tensors: &NamedTensors) -> String {
    let read = || {
        let text = std::fs::read(tensors.beside("config.json")?).ok()?;
        let config: Value = serde_json::from_slice(&text).ok()?;
        let keys = [&config["architecture"], &config["architectures"][0], &config["model_type"]];
        keys.into_iter().find_map(|name| name.as_str().map(printable))
    };
    read().map_or_else(String::new, |name| format!(" (its config.json names `{name}`)"))
}
