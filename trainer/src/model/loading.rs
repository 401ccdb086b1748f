//! Builds towers from weights. Every size is taken from the tensors, as in OpenAI's loader.

mod ends;

pub use self::ends::resized_positions;
use self::ends::{load_pooling, load_stem};
use super::backbone_config::{BackboneConfig, TowerConfig};
use super::block::{Attention, Block};
use super::layers::LayerNorm;
use super::precision::Precision;
use super::slices::{BlockLayout, BlockPart, Slices};
use super::text::TextTower;
use super::tower::{BlockNames, Field, Tower, TowerShape};
use super::trainables::ParameterSpec;
use super::tuners::TunerSet;
use super::vision::VisionTower;
use crate::weights::{NamedTensors, TensorLayout, TensorReader, WeightsError};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Options of loading.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Element types of the run.
    pub precision: Precision,
    /// Device of the tensors.
    pub device: Device,
    /// The properties that the tensors do not determine.
    pub config: BackboneConfig,
    /// The shard of each frozen block that this process keeps; `None` keeps full blocks.
    pub part: Option<BlockPart>,
}

/// A backbone, with full or sharded blocks in its image tower.
#[derive(Debug)]
pub struct Backbone {
    /// Image tower.
    pub vision: Box<dyn Tower>,
    /// Text tower, where the file has one.
    pub text: Option<TextTower>,
    /// Names of the blocks' tensors.
    pub names: BlockNames,
    /// The shards of blocks, if the blocks are sharded.
    pub slices: Option<Slices>,
    /// The trainable tensors of the tuners that it was loaded for, with their initial values.
    pub parameters: Vec<ParameterSpec>,
    /// Tensors of all zeros, which are reported to the user.
    pub all_zero: Vec<String>,
}

/// Names in which the layouts differ.
struct LayoutNames {
    names: BlockNames,
    blocks: &'static str,
    patches: &'static str,
    positions: &'static str,
    norm: &'static str,
}

const CLIP: LayoutNames = LayoutNames {
    names: BlockNames::OpenAi,
    blocks: "visual.transformer.resblocks",
    patches: "visual.conv1.weight",
    positions: "visual.positional_embedding",
    norm: "visual.ln_post",
};

const VIT: LayoutNames = LayoutNames {
    names: BlockNames::Timm,
    blocks: "blocks",
    patches: "patch_embed.proj.weight",
    positions: "pos_embed",
    norm: "norm",
};

/// Number of blocks of the image tower, for options that depend on it before anything is loaded.
pub fn vision_layers(tensors: &NamedTensors, layout: TensorLayout) -> usize {
    count_blocks(tensors, family(layout).blocks)
}

/// Width of the image tower, for decisions before anything is loaded.
pub fn vision_width(tensors: &NamedTensors, layout: TensorLayout) -> Result<i64, WeightsError> {
    Ok(tensors.get(family(layout).patches)?.size().first().copied().unwrap_or(0))
}

/// Side of a patch in pixels.
pub fn vision_patch(tensors: &NamedTensors, layout: TensorLayout) -> Result<i64, WeightsError> {
    Ok(tensors.get(family(layout).patches)?.size().last().copied().unwrap_or(0))
}

/// Width of the text tower; `None` for an image tower alone.
pub fn text_width(tensors: &NamedTensors) -> Result<Option<i64>, WeightsError> {
    if !has_text(tensors) {
        return Ok(None);
    }
    Ok(tensors.get(TOKENS)?.size().get(1).copied())
}

/// The token embedding, which every text tower has: without it, the file is an image tower alone.
const TOKENS: &str = "token_embedding.weight";
/// From the image tower into the space shared with text.
const PROJECTION: &str = "visual.proj";

/// The query of attention pooling, which every tower with attention pooling has.
const LATENT: &str = "attn_pool.latent";
/// A ViT's class token, if it has one.
const CLASS_TOKEN: &str = "cls_token";
/// A ViT's register tokens, if it has any.
const REGISTERS: &str = "reg_token";

/// Whether the image tower ends in attention pooling, which uses the patches but no class token.
pub fn pools_by_attention(tensors: &NamedTensors) -> bool {
    tensors.contains(LATENT)
}

/// Whether the file has a text tower beside the image tower.
pub fn has_text(tensors: &NamedTensors) -> bool {
    tensors.contains(TOKENS)
}

/// Numbers in a block without layer scales, whose MLP has a hidden layer of width `hidden`.
pub fn block_elements(width: i64, hidden: i64) -> u64 {
    (4 * width * width + 2 * width * hidden + 9 * width + hidden) as u64
}

fn family(layout: TensorLayout) -> &'static LayoutNames {
    match layout {
        TensorLayout::OpenAiClip => &CLIP,
        TensorLayout::TimmVit => &VIT,
    }
}

/// Names of the tensors of a block.
pub fn block_names(layout: TensorLayout) -> BlockNames {
    family(layout).names
}

/// Builds the towers, and refuses missing, misshapen and unused tensors by name. Blocks are prepared for `tuners`.
pub fn load(
    tensors: &NamedTensors,
    layout: TensorLayout,
    options: &LoadOptions,
    tuners: &TunerSet,
) -> Result<Backbone, WeightsError> {
    let mut reader = TensorReader::new(tensors, options.device);
    let shape = tower_shape(tensors, layout, options.config.resolution)?;
    let LoadedTower { tower, slices, parameters } = load_vision(&mut reader, layout, shape, options, tuners)?;
    let text = options.config.text.filter(|_| has_text(tensors));
    let text =
        text.map(|config| load_text(&mut reader, tensors, shape.joint, config, options)).transpose()?;
    let all_zero = reader.finish(|name| ignorable(name, layout))?;
    Ok(Backbone { vision: Box::new(tower), text, names: family(layout).names, slices, parameters, all_zero })
}

/// Tensors that a file may contain besides the towers: integer buffers of OpenAI's archives, and the
/// ImageNet classifier of a timm ViT.
fn ignorable(name: &str, layout: TensorLayout) -> bool {
    match layout {
        TensorLayout::OpenAiClip => matches!(name, "input_resolution" | "context_length" | "vocab_size"),
        TensorLayout::TimmVit => name.starts_with("head."),
    }
}

fn count_blocks(tensors: &NamedTensors, prefix: &str) -> usize {
    let numbers =
        tensors.names().filter_map(|name| name.strip_prefix(prefix)?.strip_prefix('.')?.split('.').next());
    numbers.filter_map(|n| n.parse::<usize>().ok()).max().map_or(0, |last| last + 1)
}

/// Sizes of the image tower for images of `resolution` pixels.
pub fn tower_shape(
    tensors: &NamedTensors,
    layout: TensorLayout,
    resolution: u32,
) -> Result<TowerShape, WeightsError> {
    let family = family(layout);
    let patches = tensors.get(family.patches)?.size();
    let [width, 3, patch, side] = patches[..] else {
        return Err(misshapen(tensors, family.patches, &[768, 3, 16, 16], "filters of 3 channels"));
    };
    if patch != side || patch == 0 || width == 0 {
        let expected = [width.max(1), 3, patch.max(1), patch.max(1)];
        return Err(misshapen(tensors, family.patches, &expected, "square patches"));
    }
    let joint = if has_text(tensors) || tensors.contains(PROJECTION) {
        tensors.get(PROJECTION)?.size().get(1).copied().unwrap_or(0)
    } else {
        0
    };
    let layers = count_blocks(tensors, family.blocks);
    let hidden = tensors.get(&format!("{}.0.{}", family.blocks, family.names.of(Field::Fc1Weight)))?.size();
    let hidden = hidden.first().copied().unwrap_or(0);
    let resolution = i64::from(resolution);
    let class_token = layout == TensorLayout::OpenAiClip || tensors.contains(CLASS_TOKEN);
    let registers = if tensors.contains(REGISTERS) {
        tensors.get(REGISTERS)?.size().get(1).copied().unwrap_or(0)
    } else {
        0
    };
    let tokens = i64::from(class_token) + registers + (resolution / patch).pow(2);
    Ok(TowerShape { width, hidden, layers, patch, resolution, tokens, registers, joint })
}

fn misshapen(tensors: &NamedTensors, name: &str, expected: &[i64], why: &str) -> WeightsError {
    WeightsError::Shape {
        file: tensors.file(),
        tensor: name.to_owned(),
        expected: expected.to_vec(),
        found: tensors.get(name).map(tch::Tensor::size).unwrap_or_default(),
        why: format!(" ({why})"),
    }
}

/// An image tower, and the tensors to train in it.
struct LoadedTower {
    tower: VisionTower,
    slices: Option<Slices>,
    parameters: Vec<ParameterSpec>,
}

fn load_vision(
    reader: &mut TensorReader<'_>,
    layout: TensorLayout,
    shape: TowerShape,
    options: &LoadOptions,
    tuners: &TunerSet,
) -> Result<LoadedTower, WeightsError> {
    let family = family(layout);
    let (width, kind) = (shape.width, options.precision.parameters);
    let stem = load_stem(reader, layout, shape, options)?;
    let LoadedBlocks { blocks, slices, parameters } = load_blocks(reader, family, shape, options, tuners)?;
    let norm = load_norm(reader, family.norm, width, options.config.vision.norm_eps, kind)?;
    let projected = shape.joint > 0;
    let projection = projected.then(|| reader.take(PROJECTION, &[width, shape.joint], kind)).transpose()?;
    let pooling = load_pooling(reader, &shape, options)?;
    let tower = VisionTower { shape, stem, byte_patches: None, blocks, norm, pooling, projection };
    Ok(LoadedTower { tower, slices, parameters })
}

/// Blocks, and the tensors to train in them.
#[derive(Default)]
struct LoadedBlocks {
    blocks: Vec<Block>,
    slices: Option<Slices>,
    parameters: Vec<ParameterSpec>,
}

/// The blocks. If `options` ask for shards, of frozen tensors only this process's shards.
fn load_blocks(
    reader: &mut TensorReader<'_>,
    family: &'static LayoutNames,
    shape: TowerShape,
    options: &LoadOptions,
    tuners: &TunerSet,
) -> Result<LoadedBlocks, WeightsError> {
    let precision = options.precision;
    let (config, attention) = (options.config.vision, Attention::Full);
    let plan = BlockPlan { family, width: shape.width, hidden: shape.hidden, config, precision, attention };
    let fields = plan.fields(reader, &format!("{}.0", family.blocks));
    let trained: Vec<_> = (0..shape.layers).map(|i| tuners.trained_in_place(i, &fields)).collect();
    let is_frozen = |i: usize, field: Field| !trained[i].contains_key(&field);
    let layouts = |part| {
        let of_block = |i| plan.layout(fields.iter().copied().filter(|field| is_frozen(i, *field)), part);
        (0..shape.layers).map(of_block).collect::<Vec<_>>()
    };
    let layouts = options.part.map(layouts).filter(|layouts| layouts.iter().any(Option::is_some));
    let mut loaded = LoadedBlocks {
        slices: layouts.map(|layouts| Slices::new(layouts, options.device)),
        ..LoadedBlocks::default()
    };
    for i in 0..shape.layers {
        let prefix = format!("{}.{i}", family.blocks);
        let mut tensors = Vec::new();
        let mut parts = Vec::new();
        for &field in &fields {
            if !is_frozen(i, field) {
                tensors.push((field, plan.take(reader, &prefix, field, precision.parameters)?));
            } else if loaded.slices.is_some() {
                parts.push((field, plan.view(reader, &prefix, field)?));
            } else {
                tensors.push((field, plan.take(reader, &prefix, field, plan.kind(field))?));
            }
        }
        if let Some(slices) = &mut loaded.slices {
            let (frozen, parts): (Vec<Field>, Vec<Tensor>) = parts.into_iter().unzip();
            tensors.extend(frozen.into_iter().zip(slices.push(&parts)));
        }
        // A tensor that is trained in place is copied. Of the others this process may keep a shard, or a lower
        // precision; initial values come from the full tensor in the file.
        let value = |field| match tensors.iter().find(|(own, _)| *own == field && !is_frozen(i, field)) {
            Some((_, tensor)) => Ok(tensor.shallow_clone()),
            None => reader.tensor(&plan.name(&prefix, field)),
        };
        let values = fields.iter().map(|&field| Ok((field, value(field)?)));
        let values = values.collect::<Result<BTreeMap<_, _>, WeightsError>>()?;
        let parameters = tuners.parameters(i, &fields, &|field| values[&field].shallow_clone());
        loaded.parameters.extend(parameters.into_iter().map(ParameterSpec::in_memory));
        loaded.blocks.push(Block::from_tensors(tensors, config, attention, precision));
    }
    Ok(loaded)
}

fn load_text(
    reader: &mut TensorReader<'_>,
    tensors: &NamedTensors,
    joint: i64,
    config: TowerConfig,
    options: &LoadOptions,
) -> Result<TextTower, WeightsError> {
    let kind = options.precision.parameters;
    let [vocabulary, width] = tensors.get(TOKENS)?.size()[..] else {
        return Err(misshapen(tensors, TOKENS, &[49408, 512], "one row a token"));
    };
    let context = tensors.get("positional_embedding")?.size().first().copied().unwrap_or(0);
    let prefix = "transformer.resblocks";
    let mut blocks = Vec::new();
    for i in 0..count_blocks(tensors, prefix) {
        let (precision, attention) = (options.precision.with_full_residual(), Attention::Causal);
        let plan = BlockPlan { family: &CLIP, width, hidden: 4 * width, config, precision, attention };
        blocks.push(plan.load(reader, &format!("{prefix}.{i}"))?);
    }
    Ok(TextTower {
        tokens: reader.take_as_is(TOKENS, &[vocabulary, width])?,
        positions: reader.take("positional_embedding", &[context, width], kind)?,
        blocks,
        norm: load_norm(reader, "ln_final", width, config.norm_eps, kind)?,
        projection: reader.take("text_projection", &[width, joint], kind)?,
        logit_scale: reader.take("logit_scale", &[], kind)?,
    })
}

/// The source of a block's tensors.
#[derive(Clone, Copy)]
struct BlockPlan {
    family: &'static LayoutNames,
    width: i64,
    hidden: i64,
    config: TowerConfig,
    precision: Precision,
    attention: Attention,
}

impl BlockPlan {
    /// The full block.
    fn load(&self, reader: &mut TensorReader<'_>, prefix: &str) -> Result<Block, WeightsError> {
        let fields = self.fields(reader, prefix);
        let take = |field| Ok((field, self.take(reader, prefix, field, self.kind(field))?));
        let tensors = fields.into_iter().map(take).collect::<Result<Vec<_>, WeightsError>>()?;
        Ok(Block::from_tensors(tensors, self.config, self.attention, self.precision))
    }

    fn take(
        &self,
        reader: &mut TensorReader<'_>,
        prefix: &str,
        field: Field,
        kind: Kind,
    ) -> Result<Tensor, WeightsError> {
        reader.take(&self.name(prefix, field), &self.shape(field), kind)
    }

    /// A tensor in the file, of which a shard is to be kept.
    fn view(
        &self,
        reader: &mut TensorReader<'_>,
        prefix: &str,
        field: Field,
    ) -> Result<Tensor, WeightsError> {
        reader.view(&self.name(prefix, field), &self.shape(field))
    }

    fn name(&self, prefix: &str, field: Field) -> String {
        format!("{prefix}.{}", self.family.names.of(field))
    }

    fn shape(&self, field: Field) -> Vec<i64> {
        let (w, hidden) = (self.width, self.hidden);
        match field {
            Field::QkvWeight => vec![3 * w, w],
            Field::QkvBias => vec![3 * w],
            Field::ProjWeight => vec![w, w],
            Field::Fc1Weight => vec![hidden, w],
            Field::Fc1Bias => vec![hidden],
            Field::Fc2Weight => vec![w, hidden],
            _ => vec![w],
        }
    }

    /// The element type of a frozen tensor: norms and scales have that of the residual stream.
    fn kind(&self, field: Field) -> Kind {
        if field.is_elementwise() { self.precision.residual } else { self.precision.compute }
    }

    /// The tensors of a block, in the order of its byte buffer. Towers have layer scales in every block or in none.
    fn fields(&self, reader: &TensorReader<'_>, prefix: &str) -> Vec<Field> {
        let scaled =
            [Field::Scale1, Field::Scale2].iter().any(|&scale| reader.has(&self.name(prefix, scale)));
        let of_block = |field: &Field| scaled || !matches!(field, Field::Scale1 | Field::Scale2);
        Field::ALL.into_iter().filter(of_block).collect()
    }

    /// The layout of these tensors in the block's byte buffer; `None` if there are none.
    fn layout(&self, frozen: impl Iterator<Item = Field>, part: BlockPart) -> Option<BlockLayout> {
        let tensors: Vec<_> = frozen.map(|field| (self.shape(field), self.kind(field))).collect();
        (!tensors.is_empty()).then(|| BlockLayout::new(&tensors, part))
    }
}

fn load_norm(
    reader: &mut TensorReader<'_>,
    prefix: &str,
    width: i64,
    eps: f64,
    kind: Kind,
) -> Result<LayerNorm, WeightsError> {
    let weight = reader.take(&format!("{prefix}.weight"), &[width], kind)?;
    Ok(LayerNorm::new(weight, reader.take(&format!("{prefix}.bias"), &[width], kind)?, eps))
}
