//! Whose names the tensors of a file have.

use super::Layout;
use std::borrow::Cow;

/// The libraries' names for the tensors of a backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// OpenAI's CLIP, and that of `open_clip`.
    OpenAi,
    /// Its image tower, saved by itself.
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
}

/// Tensors by which a naming is known, all below one prefix. The first that is found decides.
const MARKS: [(Naming, &[&str]); 7] = [
    (Naming::OpenAi, &["visual.class_embedding", "visual.conv1.weight"]),
    (Naming::HuggingFaceClip, &["vision_model.embeddings.class_embedding"]),
    (Naming::TimmClip, &["cls_token", "patch_embed.proj.weight", "norm_pre.weight"]),
    (Naming::Timm, &["cls_token", "patch_embed.proj.weight"]),
    (Naming::HuggingFaceVit, &["embeddings.cls_token", "embeddings.patch_embeddings.projection.weight"]),
    (Naming::OpenAiTower, &["class_embedding", "conv1.weight", "ln_pre.weight"]),
    (Naming::HuggingFaceTower, &["embeddings.class_embedding", "embeddings.patch_embedding.weight"]),
];

/// Parts that wrappers of modules put into names, wherever in a model they are.
const WRAPPERS: [&str; 3] = ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];

impl Naming {
    /// The layout that such tensors are brought to.
    pub fn layout(self) -> Layout {
        match self {
            Self::Timm | Self::HuggingFaceVit => Layout::TimmVit,
            _ => Layout::OpenAiClip,
        }
    }

    /// What of a prefix is not the library's own.
    pub(super) fn own_prefix(self, prefix: &str) -> &str {
        match self {
            Self::HuggingFaceVit => prefix.strip_suffix("vit.").unwrap_or(prefix),
            _ => prefix,
        }
    }
}

/// The naming of tensors, and what their names begin with: one prefix (often an empty one) for each model.
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
