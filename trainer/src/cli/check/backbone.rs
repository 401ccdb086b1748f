//! The backbone section of `check`.

use crate::engine::setup::backbone::BackboneFile;
use crate::model::backbone_config::{BackboneConfig, Pool};
use crate::model::loading::Backbone;
use crate::model::tower::Field;
use crate::weights::TensorLayout;
use serde::Serialize;

/// The backbone as the run will compute it.
#[derive(Debug, Serialize)]
pub(super) struct CheckedBackbone {
    family: String,
    layout: String,
    width: i64,
    layers: usize,
    heads: i64,
    patch: i64,
    activation: String,
    pooling: String,
    register_tokens: i64,
    norm_epsilon: f64,
    text_tower: String,
    resolution: u32,
    pixel_mean: [f64; 3],
    pixel_std: [f64; 3],
    backbone_parameters: u64,
    weights_fingerprint: String,
}

impl CheckedBackbone {
    pub(super) fn of(file: &BackboneFile, backbone: &Backbone) -> Self {
        let BackboneConfig { vision, pool, resolution, pixels, .. } = &file.config;
        let shape = backbone.vision.shape();
        let text = backbone.text.as_ref().map_or_else(
            || "none".to_owned(),
            |text| format!("{} blocks of width {}", text.blocks.len(), text.positions.size()[1]),
        );
        let tensors = file.tensors.names().filter_map(|name| file.tensors.get(name).ok());
        Self {
            family: family(file, backbone).to_owned(),
            layout: file.tensors.naming().map_or_else(String::new, |naming| naming.to_string()),
            width: shape.width,
            layers: shape.layers,
            heads: vision.heads,
            patch: shape.patch,
            activation: vision.activation.to_string(),
            pooling: pool.to_string(),
            register_tokens: shape.registers,
            norm_epsilon: vision.norm_eps,
            text_tower: text,
            resolution: *resolution,
            pixel_mean: pixels.mean,
            pixel_std: pixels.std,
            backbone_parameters: tensors.map(|tensor| tensor.numel() as u64).sum(),
            weights_fingerprint: file.fingerprint.clone(),
        }
    }
}

/// Family of the model, as far as the tensors determine it.
fn family(file: &BackboneFile, backbone: &Backbone) -> &'static str {
    let scaled = || backbone.vision.block_tensors(0).iter().any(|(field, _)| *field == Field::Scale1);
    match file.layout {
        TensorLayout::OpenAiClip if backbone.text.is_some() => "CLIP",
        TensorLayout::OpenAiClip => "image tower of CLIP",
        TensorLayout::TimmVit if file.config.pool == Pool::Attention => "image tower of SigLIP",
        TensorLayout::TimmVit if scaled() => "DINOv2",
        TensorLayout::TimmVit => "ViT",
    }
}
