//! Detects the naming of the tensors of a file, and the layout that they are converted to.

use std::borrow::Cow;
use std::fmt;

/// The naming of a backbone's tensors, by library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// OpenAI's CLIP, and that of `open_clip`.
    OpenAi,
    /// Its image tower, saved separately.
    OpenAiTower,
    /// Hugging Face's `CLIPModel` and `CLIPVisionModelWithProjection`.
    HuggingFaceClip,
    /// Hugging Face's `CLIPVisionModel`, saved by itself.
    HuggingFaceTower,
    /// timm's `vit_*_clip_*`: an image tower of CLIP.
    TimmClip,
    /// timm's ViT.
    Timm,
    /// Hugging Face's `ViTModel`, alone or below `vit.`.
    HuggingFaceVit,
    /// Hugging Face's `Dinov2Model` and `Dinov2WithRegistersModel`, alone or below their names.
    HuggingFaceDinov2,
    /// timm's `vit_*_siglip_*`, alone or below `visual.trunk.` in a SigLIP of `open_clip`.
    TimmSiglip,
    /// Hugging Face's `SiglipModel` and `SiglipVisionModel`.
    HuggingFaceSiglip,
    /// Hugging Face's `SiglipVisionModel`, saved by itself.
    HuggingFaceSiglipTower,
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenAi | Self::OpenAiTower => "OpenAI's and open_clip's CLIP",
            Self::HuggingFaceClip | Self::HuggingFaceTower => "Hugging Face's CLIP",
            Self::TimmClip => "timm's CLIP",
            Self::Timm => "timm's ViT",
            Self::HuggingFaceVit => "Hugging Face's ViT",
            Self::HuggingFaceDinov2 => "Hugging Face's DINOv2",
            Self::TimmSiglip => "timm's and open_clip's SigLIP",
            Self::HuggingFaceSiglip | Self::HuggingFaceSiglipTower => "Hugging Face's SigLIP",
        })
    }
}

/// The layout of the tensor names after [`normalise`](super::normalise).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorLayout {
    /// OpenAI's CLIP with a ViT. The text tower is there if `token_embedding.weight` is, the projection of
    /// images if `visual.proj` is.
    OpenAiClip,
    /// timm's ViT, with layer scales and registers (DINOv2) or attention pooling (SigLIP) where the file has them.
    TimmVit,
}

impl fmt::Display for TensorLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenAiClip => "a CLIP, or its image tower",
            Self::TimmVit => "a ViT as timm's or Hugging Face's",
        })
    }
}

/// Tensors that identify a naming, all below one prefix. The first match decides.
const MARKS: [(Naming, &[&str]); 11] = [
    (Naming::OpenAi, &["visual.class_embedding", "visual.conv1.weight"]),
    (Naming::HuggingFaceClip, &["vision_model.embeddings.class_embedding"]),
    (Naming::TimmClip, &["cls_token", "patch_embed.proj.weight", "norm_pre.weight"]),
    (Naming::Timm, &["cls_token", "patch_embed.proj.weight"]),
    (Naming::TimmSiglip, &["attn_pool.latent", "patch_embed.proj.weight"]),
    (Naming::HuggingFaceDinov2, &["embeddings.cls_token", "encoder.layer.0.layer_scale1.lambda1"]),
    (Naming::HuggingFaceVit, &["embeddings.cls_token", "embeddings.patch_embeddings.projection.weight"]),
    (Naming::OpenAiTower, &["class_embedding", "conv1.weight", "ln_pre.weight"]),
    (Naming::HuggingFaceTower, &["embeddings.class_embedding", "embeddings.patch_embedding.weight"]),
    (
        Naming::HuggingFaceSiglip,
        &["vision_model.head.probe", "vision_model.embeddings.patch_embedding.weight"],
    ),
    (Naming::HuggingFaceSiglipTower, &["head.probe", "embeddings.patch_embedding.weight"]),
];

/// Parts that module wrappers add to names, anywhere in a model.
const WRAPPERS: [&str; 3] = ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];

impl Naming {
    /// The layout that such tensors are converted to.
    pub fn layout(self) -> TensorLayout {
        match self {
            Self::OpenAi
            | Self::OpenAiTower
            | Self::HuggingFaceClip
            | Self::HuggingFaceTower
            | Self::TimmClip => TensorLayout::OpenAiClip,
            Self::Timm
            | Self::HuggingFaceVit
            | Self::HuggingFaceDinov2
            | Self::TimmSiglip
            | Self::HuggingFaceSiglip
            | Self::HuggingFaceSiglipTower => TensorLayout::TimmVit,
        }
    }

    /// The part of a prefix that the library itself does not add.
    pub(super) fn own_prefix(self, prefix: &str) -> &str {
        let own: &[&str] = match self {
            Self::HuggingFaceVit => &["vit."],
            Self::HuggingFaceDinov2 => &["dinov2.", "dinov2_with_registers."],
            Self::TimmSiglip => &["visual.trunk."],
            _ => &[],
        };
        own.iter().find_map(|own| prefix.strip_suffix(own)).unwrap_or(prefix)
    }
}

/// The naming of tensors, and the prefixes of their names: one prefix (often empty) for each model.
pub(super) fn recognise<'a>(names: impl Iterator<Item = &'a str>) -> Option<(Naming, Vec<String>)> {
    let names: Vec<Cow<'_, str>> = names.map(plain).collect();
    let has = |prefix: &str, mark: &str| names.iter().any(|name| name.strip_prefix(prefix) == Some(mark));
    MARKS.iter().find_map(|(naming, marks)| {
        let [first, others @ ..] = marks else { return None };
        let prefixes = names.iter().filter_map(|name| name.strip_suffix(first));
        let prefixes = prefixes.filter(|prefix| prefix.is_empty() || prefix.ends_with('.'));
        let prefixes: Vec<String> = prefixes
            .filter(|prefix| others.iter().all(|mark| has(prefix, mark)))
            .map(str::to_owned)
            .collect();
        (!prefixes.is_empty()).then_some((*naming, prefixes))
    })
}

/// A name without the parts of [`WRAPPERS`].
pub(super) fn plain(name: &str) -> Cow<'_, str> {
    if !WRAPPERS.iter().any(|wrapper| name.contains(wrapper)) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(WRAPPERS.iter().fold(name.to_owned(), |name, wrapper| name.replace(wrapper, "")))
}
