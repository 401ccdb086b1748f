//! The parts before and after the blocks of an image tower: the stem and the pooling.

use super::{CLASS_TOKEN, LATENT, LoadOptions, REGISTERS, family, load_norm};
use crate::model::backbone_config::Pool;
use crate::model::layers::Linear;
use crate::model::pooling::{AttentionPool, Pooling};
use crate::model::tower::TowerShape;
use crate::model::vision::Stem;
use crate::weights::{NamedTensors, TensorLayout, TensorReader, WeightsError};
use tch::{Kind, Tensor};

pub(super) fn load_stem(
    reader: &mut TensorReader<'_>,
    layout: TensorLayout,
    shape: TowerShape,
    options: &LoadOptions,
) -> Result<Stem, WeightsError> {
    let TowerShape { width, patch, registers, .. } = shape;
    let (kind, compute, family) = (options.precision.parameters, options.precision.compute, family(layout));
    let patches = reader.take(family.patches, &[width, 3, patch, patch], compute)?;
    let precision = options.precision;
    match layout {
        TensorLayout::OpenAiClip => Ok(Stem {
            patches,
            bias: None,
            class_token: Some(reader.take("visual.class_embedding", &[width], kind)?),
            registers: None,
            positions: load_positions(reader, family.positions, &[], &shape, options)?,
            norm: Some(load_norm(reader, "visual.ln_pre", width, options.config.vision.norm_eps, kind)?),
            precision,
        }),
        TensorLayout::TimmVit => {
            let mut token = |name: &str, count: i64| -> Result<Option<Tensor>, WeightsError> {
                let tokens = reader.has(name).then(|| reader.take(name, &[1, count, width], kind));
                Ok(tokens.transpose()?.map(|tokens| tokens.squeeze_dim(0)))
            };
            Ok(Stem {
                patches,
                class_token: token(CLASS_TOKEN, 1)?.map(|token| token.squeeze_dim(0)),
                registers: token(REGISTERS, registers)?,
                bias: Some(reader.take("patch_embed.proj.bias", &[width], compute)?),
                positions: load_positions(reader, family.positions, &[1], &shape, options)?,
                norm: None,
                precision,
            })
        }
    }
}

/// Positions of every token, `[tokens, width]`; in the file after the dimensions `lead`. Files have them for all tokens,
/// for the patches alone, or for the class token and the patches but not for registers: other tokens get zeros.
fn load_positions(
    reader: &mut TensorReader<'_>,
    name: &str,
    lead: &[i64],
    shape: &TowerShape,
    options: &LoadOptions,
) -> Result<Tensor, WeightsError> {
    let TowerShape { width, resolution, patch, .. } = *shape;
    let (prefix, patches, kind) = (shape.prefix(), shape.patches(), options.precision.parameters);
    let rows = reader.tensor(name)?.size().get(lead.len()).copied().unwrap_or(0);
    let found = placed(rows, shape, options.config.resize_positions);
    let (placed, grid) = found.unwrap_or((prefix, patches));
    let why = format!(
        "for images of {resolution} pixels in patches of {patch}\nhint: see model.resolution and model.positions"
    );
    let expected = [lead, &[placed + grid, width]].concat();
    let positions = reader.take_because(name, &expected, kind, &why)?.view([placed + grid, width]);
    if placed == prefix && grid == patches {
        return Ok(positions);
    }
    let none = Tensor::zeros([prefix - placed, width], (kind, positions.device()));
    let of_patches = resized(&positions.narrow(0, placed, grid), patches);
    Ok(Tensor::cat(&[positions.narrow(0, 0, placed), none, of_patches], 0))
}

/// Splits `rows` positions into those of tokens before the patches and those of patches; the latter are as many as the
/// tower has, or any square number. `None` if neither fits.
fn placed(rows: i64, shape: &TowerShape, any_square: bool) -> Option<(i64, i64)> {
    let (prefix, patches) = (shape.prefix(), shape.patches());
    let fits = |grid: i64| grid == patches || (any_square && grid > 0 && grid.isqrt().pow(2) == grid);
    let found = [0, 1, prefix].into_iter().find(|&placed| placed <= prefix && fits(rows - placed))?;
    Some((found, rows - found))
}

/// Patches per side in the positions of the file and in the tower, if the two differ.
pub fn resized_positions(
    tensors: &NamedTensors,
    layout: TensorLayout,
    shape: &TowerShape,
) -> Option<(i64, i64)> {
    let size = tensors.get(family(layout).positions).ok()?.size();
    let (_, grid) = placed(size.iter().rev().nth(1).copied()?, shape, true)?;
    (grid != shape.patches()).then(|| (grid.isqrt(), shape.patches().isqrt()))
}

/// Positions of a square of patches, resized to another number as in timm: bicubic, antialiased, in fp32.
fn resized(positions: &Tensor, patches: i64) -> Tensor {
    let (from, to, width) = (positions.size()[0].isqrt(), patches.isqrt(), positions.size()[1]);
    if from == to {
        return positions.shallow_clone();
    }
    let image = positions.to_kind(Kind::Float).view([1, from, from, width]).permute([0, 3, 1, 2]);
    let image = image.internal_upsample_bicubic2d_aa([to, to], false, None, None);
    image.permute([0, 2, 3, 1]).reshape([to * to, width]).to_kind(positions.kind())
}

pub(super) fn load_pooling(
    reader: &mut TensorReader<'_>,
    shape: &TowerShape,
    options: &LoadOptions,
) -> Result<Pooling, WeightsError> {
    match options.config.pool {
        Pool::Token => Ok(Pooling::ClassToken),
        Pool::Average => Ok(Pooling::Average),
        Pool::Attention => load_attention_pool(reader, shape, options).map(Box::new).map(Pooling::Attention),
    }
}

fn load_attention_pool(
    reader: &mut TensorReader<'_>,
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
