//! The layouts that weights come in, brought to the names of OpenAI's CLIP or of timm's ViT.

use super::named::{NamedTensors, WeightsError};
use std::collections::BTreeMap;
use tch::Tensor;

/// How the tensors of a file are named, after [`normalise`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// OpenAI's CLIP with a ViT.
    OpenAiClip,
    /// timm's ViT.
    TimmVit,
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OpenAiClip => "a CLIP with text and image tower",
            Self::TimmVit => "a ViT in timm's layout",
        })
    }
}

/// Recognises the layout; Hugging Face's CLIP is renamed to OpenAI's on the way.
pub fn normalise(tensors: NamedTensors) -> Result<(NamedTensors, Layout), WeightsError> {
    if tensors.contains("visual.conv1.weight") && tensors.contains("visual.class_embedding") {
        Ok((tensors, Layout::OpenAiClip))
    } else if tensors.contains("vision_model.embeddings.class_embedding") {
        Ok((openai_from_hugging_face(tensors)?, Layout::OpenAiClip))
    } else if tensors.contains("patch_embed.proj.weight") && tensors.contains("cls_token") {
        Ok((tensors, Layout::TimmVit))
    } else {
        let found = tensors.names().take(3).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        Err(WeightsError::Layout { file: tensors.file(), found })
    }
}

/// Whole names of Hugging Face's `CLIPModel`, and OpenAI's.
const NAMES: [(&str, &str); 14] = [
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.pre_layrnorm.weight", "visual.ln_pre.weight"),
    ("vision_model.pre_layrnorm.bias", "visual.ln_pre.bias"),
    ("vision_model.post_layernorm.weight", "visual.ln_post.weight"),
    ("vision_model.post_layernorm.bias", "visual.ln_post.bias"),
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm.weight", "ln_final.weight"),
    ("text_model.final_layer_norm.bias", "ln_final.bias"),
    ("logit_scale", "logit_scale"),
    ("visual_projection.weight", "visual.proj"),
    ("text_projection.weight", "text_projection"),
];

/// Parts of a layer.
const PARTS: [(&str, &str); 5] = [
    ("self_attn.out_proj.", "attn.out_proj."),
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
];

/// Towers: prefix of their layers in either layout.
const TOWERS: [(&str, &str); 2] = [
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
];

fn openai_from_hugging_face(tensors: NamedTensors) -> Result<NamedTensors, WeightsError> {
    let file = tensors.file();
    tensors.map(|mut old| {
        let names: Vec<String> = old.keys().cloned().collect();
        let mut new = BTreeMap::new();
        for name in names {
            // Buffers of integer positions belong to no layer of the model.
            if name.ends_with(".position_ids") {
                continue;
            }
            if let Some((target, tensor)) = translate(&name, &mut old, &file)? {
                new.insert(target, tensor);
            }
        }
        // Whatever is left keeps its name, and is refused as left over by the reader.
        new.extend(old.into_iter().filter(|(name, _)| !name.ends_with(".position_ids")));
        Ok(new)
    })
}

/// OpenAI's name and tensor for `name`; takes what it uses out of `old`.
fn translate(
    name: &str,
    old: &mut BTreeMap<String, Tensor>,
    file: &str,
) -> Result<Option<(String, Tensor)>, WeightsError> {
    if let Some((_, target)) = NAMES.iter().find(|(source, _)| *source == name) {
        let Some(tensor) = old.remove(name) else { return Ok(None) };
        let projection = *target == "visual.proj" || *target == "text_projection";
        let tensor = if projection { tensor.transpose(0, 1) } else { tensor };
        return Ok(Some(((*target).to_owned(), tensor)));
    }
    for (source, target) in TOWERS {
        let Some((layer, part)) = name.strip_prefix(source).and_then(|rest| rest.split_once('.')) else {
            continue;
        };
        for (from, to) in PARTS {
            if let Some(field) = part.strip_prefix(from) {
                return Ok(old.remove(name).map(|t| (format!("{target}{layer}.{to}{field}"), t)));
            }
        }
        if let Some(field) = part.strip_prefix("self_attn.q_proj.") {
            let prefix = format!("{source}{layer}.self_attn.");
            let tensor = join_projections(&prefix, field, old, file)?;
            return Ok(Some((format!("{target}{layer}.attn.in_proj_{field}"), tensor)));
        }
    }
    Ok(None)
}

/// Queries, keys and values, one below the other.
fn join_projections(
    prefix: &str,
    field: &str,
    old: &mut BTreeMap<String, Tensor>,
    file: &str,
) -> Result<Tensor, WeightsError> {
    let mut parts = Vec::with_capacity(3);
    for letter in ["q", "k", "v"] {
        let name = format!("{prefix}{letter}_proj.{field}");
        let part = old.remove(&name);
        parts.push(part.ok_or_else(|| WeightsError::Missing { file: file.to_owned(), tensor: name })?);
    }
    for (letter, part) in ["k", "v"].into_iter().zip(&parts[1..]) {
        if part.size() != parts[0].size() || part.kind() != parts[0].kind() {
            return Err(WeightsError::Shape {
                file: file.to_owned(),
                tensor: format!("{prefix}{letter}_proj.{field}"),
                expected: parts[0].size(),
                found: part.size(),
                why: " (as q_proj has)".to_owned(),
            });
        }
    }
    Ok(Tensor::cat(&parts, 0))
}
