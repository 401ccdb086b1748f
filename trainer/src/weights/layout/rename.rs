//! Tables that map tensor names from one library to another.

use super::{Tensors, WeightsError};
use tch::Tensor;

/// Names of one layout, and the corresponding names of another.
pub(super) struct RenameTable {
    /// Full names.
    whole: &'static [(&'static str, &'static str)],
    /// Prefixes of the names of a layer's tensors, up to the layer's number.
    towers: &'static [(&'static str, &'static str)],
    /// Parts of a layer.
    parts: &'static [(&'static str, &'static str)],
    /// Queries, keys and values, where they are three tensors each, and what they are together; one line for each of
    /// the names that a library has had for them.
    joined: &'static [([&'static str; 3], &'static str)],
}

/// From Hugging Face's `CLIPModel` to OpenAI's CLIP.
pub(super) const HUGGING_FACE_CLIP: RenameTable = RenameTable {
    whole: &[
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
        ("visual_projection.weight", "visual.proj"),
        ("text_projection.weight", "text_projection"),
    ],
    towers: &[
        ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
        ("text_model.encoder.layers.", "transformer.resblocks."),
    ],
    parts: &[
        ("self_attn.out_proj.", "attn.out_proj."),
        ("layer_norm1.", "ln_1."),
        ("layer_norm2.", "ln_2."),
        ("mlp.fc1.", "mlp.c_fc."),
        ("mlp.fc2.", "mlp.c_proj."),
    ],
    joined: &[(["self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."], "attn.in_proj_")],
};

/// From timm's `vit_*_clip_*` to the image tower of OpenAI's CLIP.
pub(super) const TIMM_CLIP: RenameTable = RenameTable {
    whole: &[
        ("cls_token", "visual.class_embedding"),
        ("pos_embed", "visual.positional_embedding"),
        ("patch_embed.proj.weight", "visual.conv1.weight"),
        ("norm_pre.weight", "visual.ln_pre.weight"),
        ("norm_pre.bias", "visual.ln_pre.bias"),
        ("norm.weight", "visual.ln_post.weight"),
        ("norm.bias", "visual.ln_post.bias"),
    ],
    towers: &[("blocks.", "visual.transformer.resblocks.")],
    parts: &[
        ("attn.qkv.", "attn.in_proj_"),
        ("attn.proj.", "attn.out_proj."),
        ("norm1.", "ln_1."),
        ("norm2.", "ln_2."),
        ("mlp.fc1.", "mlp.c_fc."),
        ("mlp.fc2.", "mlp.c_proj."),
    ],
    joined: &[],
};

/// From Hugging Face's `ViTModel` to timm's ViT.
pub(super) const HUGGING_FACE_VIT: RenameTable = RenameTable {
    whole: &[
        ("embeddings.cls_token", "cls_token"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.patch_embeddings.projection.weight", "patch_embed.proj.weight"),
        ("embeddings.patch_embeddings.projection.bias", "patch_embed.proj.bias"),
        ("layernorm.weight", "norm.weight"),
        ("layernorm.bias", "norm.bias"),
    ],
    towers: &[("encoder.layer.", "blocks.")],
    parts: &[
        ("attention.output.dense.", "attn.proj."),
        ("layernorm_before.", "norm1."),
        ("layernorm_after.", "norm2."),
        ("intermediate.dense.", "mlp.fc1."),
        ("output.dense.", "mlp.fc2."),
    ],
    joined: &[(
        ["attention.attention.query.", "attention.attention.key.", "attention.attention.value."],
        "attn.qkv.",
    )],
};

/// From Hugging Face's `Dinov2Model` to timm's ViT.
pub(super) const HUGGING_FACE_DINOV2: RenameTable = RenameTable {
    whole: &[
        ("embeddings.cls_token", "cls_token"),
        ("embeddings.register_tokens", "reg_token"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.patch_embeddings.projection.weight", "patch_embed.proj.weight"),
        ("embeddings.patch_embeddings.projection.bias", "patch_embed.proj.bias"),
        ("layernorm.weight", "norm.weight"),
        ("layernorm.bias", "norm.bias"),
    ],
    towers: &[("encoder.layer.", "blocks.")],
    parts: &[
        ("attention.output.dense.", "attn.proj."),
        ("attention.o_proj.", "attn.proj."),
        ("layer_scale1.lambda1", "ls1.gamma"),
        ("layer_scale2.lambda1", "ls2.gamma"),
        ("norm1.", "norm1."),
        ("norm2.", "norm2."),
        ("mlp.", "mlp."),
    ],
    joined: &[
        (
            ["attention.attention.query.", "attention.attention.key.", "attention.attention.value."],
            "attn.qkv.",
        ),
        (["attention.q_proj.", "attention.k_proj.", "attention.v_proj."], "attn.qkv."),
    ],
};

/// From the image tower of Hugging Face's `SiglipModel` to timm's.
pub(super) const HUGGING_FACE_SIGLIP: RenameTable = RenameTable {
    whole: &[
        ("vision_model.embeddings.patch_embedding.weight", "patch_embed.proj.weight"),
        ("vision_model.embeddings.patch_embedding.bias", "patch_embed.proj.bias"),
        ("vision_model.embeddings.position_embedding.weight", "pos_embed"),
        ("vision_model.post_layernorm.weight", "norm.weight"),
        ("vision_model.post_layernorm.bias", "norm.bias"),
        ("vision_model.head.probe", "attn_pool.latent"),
        ("vision_model.head.attention.in_proj_weight", "attn_pool.in_proj_weight"),
        ("vision_model.head.attention.in_proj_bias", "attn_pool.in_proj_bias"),
        ("vision_model.head.attention.out_proj.weight", "attn_pool.proj.weight"),
        ("vision_model.head.attention.out_proj.bias", "attn_pool.proj.bias"),
        ("vision_model.head.layernorm.weight", "attn_pool.norm.weight"),
        ("vision_model.head.layernorm.bias", "attn_pool.norm.bias"),
        ("vision_model.head.mlp.fc1.weight", "attn_pool.mlp.fc1.weight"),
        ("vision_model.head.mlp.fc1.bias", "attn_pool.mlp.fc1.bias"),
        ("vision_model.head.mlp.fc2.weight", "attn_pool.mlp.fc2.weight"),
        ("vision_model.head.mlp.fc2.bias", "attn_pool.mlp.fc2.bias"),
    ],
    towers: &[("vision_model.encoder.layers.", "blocks.")],
    parts: &[
        ("self_attn.out_proj.", "attn.proj."),
        ("layer_norm1.", "norm1."),
        ("layer_norm2.", "norm2."),
        ("mlp.", "mlp."),
    ],
    joined: &[(["self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."], "attn.qkv.")],
};

impl RenameTable {
    /// Renames the tensors in the table. Any other tensor keeps its name, and the reader refuses it as unused.
    pub(super) fn apply(&self, mut old: Tensors, file: &str) -> Result<Tensors, WeightsError> {
        let names: Vec<String> = old.keys().cloned().collect();
        let mut new = Tensors::new();
        for name in names {
            if let Some((target, tensor)) = self.translate(&name, &mut old, file)? {
                new.insert(target, tensor);
            }
        }
        new.extend(old);
        Ok(new)
    }

    /// The new name and tensor for `name`; takes what it uses out of `old`.
    fn translate(
        &self,
        name: &str,
        old: &mut Tensors,
        file: &str,
    ) -> Result<Option<(String, Tensor)>, WeightsError> {
        if let Some((_, target)) = self.whole.iter().find(|(source, _)| *source == name) {
            return Ok(old.remove(name).map(|tensor| ((*target).to_owned(), tensor)));
        }
        for (source, target) in self.towers {
            let Some((layer, part)) = name.strip_prefix(source).and_then(|rest| rest.split_once('.')) else {
                continue;
            };
            for (from, to) in self.parts {
                if let Some(field) = part.strip_prefix(from) {
                    return Ok(old.remove(name).map(|t| (format!("{target}{layer}.{to}{field}"), t)));
                }
            }
            for (parts, together) in self.joined {
                let Some(field) = part.strip_prefix(parts[0]) else { continue };
                let names = parts.map(|part| format!("{source}{layer}.{part}{field}"));
                return Ok(Some((format!("{target}{layer}.{together}{field}"), join(names, old, file)?)));
            }
        }
        Ok(None)
    }
}

/// Queries, keys and values, one below the other.
fn join(names: [String; 3], old: &mut Tensors, file: &str) -> Result<Tensor, WeightsError> {
    let mut parts: Vec<Tensor> = Vec::with_capacity(3);
    for name in names {
        let Some(part) = old.remove(&name) else {
            return Err(WeightsError::Missing { file: file.to_owned(), tensor: name });
        };
        if let Some(first) = parts.first()
            && (part.size() != first.size() || part.kind() != first.kind())
        {
            return Err(WeightsError::Shape {
                file: file.to_owned(),
                tensor: name,
                expected: first.size(),
                found: part.size(),
                why: " (as the queries have)".to_owned(),
            });
        }
        parts.push(part);
    }
    Ok(Tensor::cat(&parts, 0))
}
