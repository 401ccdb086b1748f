//! What lies before and after the blocks of an image tower: the stem, and how its features are pooled.

use super::{CLASS_TOKEN, LATENT, LoadOptions, REGISTERS, family, load_norm};
use crate::model::backbone_config::Pool;
use crate::model::layers::Linear;
use crate::model::pooling::{AttentionPool, Pooling};
use crate::model::tower::TowerShape;
use crate::model::vision::Stem;
use crate::weights::{Layout, Reader, WeightsError};
use tch::{Kind, Tensor};

pub(super) fn load_stem(
    reader: &mut Reader<'_>,
    layout: Layout,
    shape: TowerShape,
    options: &LoadOptions,
) -> Result<Stem, WeightsError> {
    let TowerShape { width, patch, resolution, tokens, registers, .. } = shape;
    let (kind, compute, family) = (options.precision.parameters, options.precision.compute, family(layout));
    let why = format!("for images of {resolution} pixels in patches of {patch}; see model.resolution");
    let patches = reader.take(family.patches, &[width, 3, patch, patch], compute)?;
    let precision = options.precision;
    match layout {
        Layout::OpenAiClip => Ok(Stem {
            patches,
            bias: None,
            class_token: Some(reader.take("visual.class_embedding", &[width], kind)?),
            registers: None,
            positions: reader.take_because(family.positions, &[tokens, width], kind, &why)?,
            norm: Some(load_norm(reader, "visual.ln_pre", width, options.config.vision.norm_eps, kind)?),
            precision,
        }),
        Layout::TimmVit => {
            let mut token = |name: &str, count: i64| -> Result<Option<Tensor>, WeightsError> {
                let tokens = reader.has(name).then(|| reader.take(name, &[1, count, width], kind));
                Ok(tokens.transpose()?.map(|tokens| tokens.squeeze_dim(0)))
            };
            Ok(Stem {
                patches,
                class_token: token(CLASS_TOKEN, 1)?.map(|token| token.squeeze_dim(0)),
                registers: token(REGISTERS, registers)?,
                bias: Some(reader.take("patch_embed.proj.bias", &[width], compute)?),
                positions: load_positions(reader, family.positions, &shape, kind, &why)?,
                norm: None,
                precision,
            })
        }
    }
}

/// Positions of every token. Files have them for all tokens, for the patches alone, or for the class token and the patches
/// but not for registers; a token without one gets zeros.
fn load_positions(
    reader: &mut Reader<'_>,
    name: &str,
    shape: &TowerShape,
    kind: Kind,
    why: &str,
) -> Result<Tensor, WeightsError> {
    let (prefix, patches, width) = (shape.prefix(), shape.patches(), shape.width);
    let rows = reader.tensor(name)?.size().get(1).copied().unwrap_or(0);
    let placed =
        [0, 1].into_iter().find(|placed| *placed < prefix && placed + patches == rows).unwrap_or(prefix);
    let positions = reader.take_because(name, &[1, placed + patches, width], kind, why)?.squeeze_dim(0);
    if placed == prefix {
        return Ok(positions);
    }
    let none = Tensor::zeros([prefix - placed, width], (kind, positions.device()));
    Ok(Tensor::cat(&[positions.narrow(0, 0, placed), none, positions.narrow(0, placed, patches)], 0))
}

pub(super) fn load_pooling(
    reader: &mut Reader<'_>,
    shape: &TowerShape,
    options: &LoadOptions,
) -> Result<Pooling, WeightsError> {
    match options.config.pool {
        Pool::Token => Ok(Pooling::ClassToken),
        Pool::Average => Ok(Pooling::Average),
        Pool::Attention => load_attention_pool(reader, shape, options).map(Pooling::Attention),
    }
}

fn load_attention_pool(
    reader: &mut Reader<'_>,
    shape: &TowerShape,
    options: &LoadOptions,
) -> Result<AttentionPool, WeightsError> {
    let (config, precision, width) = (options.config.vision, options.precision, shape.width);
    let hidden = reader.tensor("attn_pool.mlp.fc1.bias")?.size().first().copied().unwrap_or(0);
    let latent = reader.take(LATENT, &[1, 1, width], precision.parameters)?;
    let norm = load_norm(reader, "attn_pool.norm", width, config.norm_eps, precision.parameters)?;
    let mut linear = |name: &str, inputs: i64, outputs: i64| -> Result<Linear, WeightsError> {
        let name = |part: &str| format!("attn_pool.{name}.{part}");
        let weight = reader.take(&name("weight"), &[outputs, inputs], precision.compute)?;
        Ok(Linear::new(weight, reader.take(&name("bias"), &[outputs], precision.compute)?, precision))
    };
    Ok(AttentionPool {
        latent,
        q: linear("q", width, width)?,
        kv: linear("kv", width, 2 * width)?,
        proj: linear("proj", width, width)?,
        norm,
        fc1: linear("mlp.fc1", width, hidden)?,
        fc2: linear("mlp.fc2", hidden, width)?,
        activation: config.activation,
        heads: config.heads,
    })
}
