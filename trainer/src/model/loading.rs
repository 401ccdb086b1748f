//! Towers from weights. Every size is read off the tensors, in the way that OpenAI's loader does it.

use super::block::{Attention, Block, BlockNames, HEAD_WIDTH};
use super::layers::{Activation, LayerNorm};
use super::precision::Precision;
use super::slices::{BlockLayout, Part, Slices};
use super::text::TextTower;
use super::vision::{Stem, VisionShape, VisionTower};
use crate::weights::file_map::FileMap;
use crate::weights::{Layout, NamedTensors, Reader, WeightsError};
use std::ops::Range;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// What to load, and how.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Kinds of the run.
    pub precision: Precision,
    /// Where the tensors go.
    pub device: Device,
    /// Blocks of the image tower that will be trained: kept in the kind of parameters.
    pub trained: Range<usize>,
    /// Side of the images, which has to match the positions.
    pub resolution: i64,
    /// The part of each frozen block that this process keeps; `None` keeps all of them.
    pub part: Option<Part>,
}

/// A backbone; whole, or with parts of its image tower's blocks.
#[derive(Debug)]
pub struct Backbone {
    /// Image tower.
    pub vision: VisionTower,
    /// Text tower, for CLIP.
    pub text: Option<TextTower>,
    /// Names of the blocks' tensors.
    pub names: BlockNames,
    /// The parts of blocks, where this process does not keep whole ones.
    pub slices: Option<Slices>,
    /// What tensors that were not copied out of their file view.
    pub maps: Vec<Arc<FileMap>>,
}

/// Prefixes and constants in which the layouts differ.
struct Family {
    names: BlockNames,
    blocks: &'static str,
    patches: &'static str,
    positions: &'static str,
    eps: f64,
    activation: Activation,
}

const CLIP: Family = Family {
    names: BlockNames::OpenAi,
    blocks: "visual.transformer.resblocks",
    patches: "visual.conv1.weight",
    positions: "visual.positional_embedding",
    eps: 1e-5,
    activation: Activation::QuickGelu,
};

const VIT: Family = Family {
    names: BlockNames::Timm,
    blocks: "blocks",
    patches: "patch_embed.proj.weight",
    positions: "pos_embed",
    eps: 1e-6,
    activation: Activation::Gelu,
};

/// Number of blocks of the image tower, for options that depend on it before anything is loaded.
pub fn vision_layers(tensors: &NamedTensors, layout: Layout) -> usize {
    count_blocks(tensors, family(layout).blocks)
}

/// Width of the image tower, for decisions before anything is loaded.
pub fn vision_width(tensors: &NamedTensors, layout: Layout) -> Result<i64, WeightsError> {
    Ok(tensors.get(family(layout).patches)?.size().first().copied().unwrap_or(0))
}

/// Numbers in a block of that width.
pub fn block_elements(width: i64) -> u64 {
    (12 * width * width + 13 * width) as u64
}

fn family(layout: Layout) -> &'static Family {
    match layout {
        Layout::OpenAiClip => &CLIP,
        Layout::TimmVit => &VIT,
    }
}

/// Builds the towers, refusing missing, misshapen and left-over tensors by name.
pub fn load(tensors: &NamedTensors, layout: Layout, options: &LoadOptions) -> Result<Backbone, WeightsError> {
    let mut reader = Reader::new(tensors, options.device);
    let shape = vision_shape(tensors, layout, options.resolution)?;
    if options.part.is_some() {
        // What stays views no file then, so that its pages can go.
        reader = reader.copying();
    }
    let (vision, slices) = load_vision(&mut reader, layout, shape, options)?;
    let has_text = tensors.contains("token_embedding.weight");
    let text = has_text.then(|| load_text(&mut reader, tensors, shape.joint, options)).transpose()?;
    reader.finish(|name| ignorable(name, layout))?;
    let maps = if options.part.is_none() { tensors.maps().to_vec() } else { Vec::new() };
    Ok(Backbone { vision, text, names: family(layout).names, slices, maps })
}

/// Tensors that a file may hold beside the towers: integer buffers of OpenAI's archives, and the
/// ImageNet classifier of a timm ViT.
fn ignorable(name: &str, layout: Layout) -> bool {
    match layout {
        Layout::OpenAiClip => matches!(name, "input_resolution" | "context_length" | "vocab_size"),
        Layout::TimmVit => name.starts_with("head."),
    }
}

fn count_blocks(tensors: &NamedTensors, prefix: &str) -> usize {
    let numbers =
        tensors.names().filter_map(|name| name.strip_prefix(prefix)?.strip_prefix('.')?.split('.').next());
    numbers.filter_map(|n| n.parse::<usize>().ok()).max().map_or(0, |last| last + 1)
}

fn vision_shape(
    tensors: &NamedTensors,
    layout: Layout,
    resolution: i64,
) -> Result<VisionShape, WeightsError> {
    let family = family(layout);
    let patches = tensors.get(family.patches)?.size();
    let [width, 3, patch, side] = patches[..] else {
        return Err(misshapen(tensors, family.patches, &[HEAD_WIDTH, 3, 16, 16], "filters of 3 channels"));
    };
    if patch != side || patch == 0 || width % HEAD_WIDTH != 0 || width == 0 {
        let expected = [(width / HEAD_WIDTH).max(1) * HEAD_WIDTH, 3, patch, patch];
        return Err(misshapen(tensors, family.patches, &expected, "square patches, heads of 64"));
    }
    let projection = tensors.get("visual.proj").map(Tensor::size).unwrap_or_default();
    let joint = projection.get(1).copied().unwrap_or(0);
    let layers = count_blocks(tensors, family.blocks);
    Ok(VisionShape { width, layers, patch, resolution, joint })
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

fn load_vision(
    reader: &mut Reader<'_>,
    layout: Layout,
    shape: VisionShape,
    options: &LoadOptions,
) -> Result<(VisionTower, Option<Slices>), WeightsError> {
    let family = family(layout);
    let (width, kind) = (shape.width, options.precision.parameters);
    let stem = load_stem(reader, layout, shape, options)?;
    let (blocks, slices) = load_blocks(reader, family, shape, options)?;
    let norm = if layout == Layout::OpenAiClip { "visual.ln_post" } else { "norm" };
    let norm = load_norm(reader, norm, width, family.eps, kind)?;
    let projected = shape.joint > 0;
    let projection =
        projected.then(|| reader.take("visual.proj", &[width, shape.joint], kind)).transpose()?;
    Ok((VisionTower { shape, stem, blocks, norm, projection }, slices))
}

/// The blocks; those that are not trained as this process's parts, if `options` say so.
fn load_blocks(
    reader: &mut Reader<'_>,
    family: &'static Family,
    shape: VisionShape,
    options: &LoadOptions,
) -> Result<(Vec<Block>, Option<Slices>), WeightsError> {
    let LoadOptions { precision, trained, .. } = options;
    let (width, attention) = (shape.width, Attention::Full);
    let frozen = BlockPlan { family, width, weights: precision.compute, precision: *precision, attention };
    let whole = BlockPlan { weights: precision.parameters, ..frozen };
    let part = options.part.filter(|_| trained.len() < shape.layers);
    let layout = part.map(|part| BlockLayout::new(&frozen.shapes(), part));
    let mut slices = layout.map(|layout| Slices::new(layout, options.device));
    let mut blocks = Vec::with_capacity(shape.layers);
    for i in 0..shape.layers {
        let prefix = format!("{}.{i}", family.blocks);
        blocks.push(match &mut slices {
            _ if trained.contains(&i) => {
                slices.iter_mut().for_each(Slices::push_whole);
                whole.load(reader, &prefix)?
            }
            Some(slices) => {
                let tensors = slices.push(&frozen.in_file(reader, &prefix)?);
                frozen.assemble(tensors)
            }
            None => frozen.load(reader, &prefix)?,
        });
    }
    Ok((blocks, slices))
}

fn load_stem(
    reader: &mut Reader<'_>,
    layout: Layout,
    shape: VisionShape,
    options: &LoadOptions,
) -> Result<Stem, WeightsError> {
    let VisionShape { width, patch, resolution, .. } = shape;
    let (kind, compute, family) = (options.precision.parameters, options.precision.compute, family(layout));
    let tokens = 1 + (resolution / patch).pow(2);
    let why = format!("for images of {resolution} pixels in patches of {patch}; see model.resolution");
    let patches = reader.take(family.patches, &[width, 3, patch, patch], compute)?;
    let precision = options.precision;
    match layout {
        Layout::OpenAiClip => Ok(Stem {
            patches,
            bias: None,
            class_token: reader.take("visual.class_embedding", &[width], kind)?,
            positions: reader.take_because(family.positions, &[tokens, width], kind, &why)?,
            norm: Some(load_norm(reader, "visual.ln_pre", width, family.eps, kind)?),
            precision,
        }),
        Layout::TimmVit => Ok(Stem {
            patches,
            bias: Some(reader.take("patch_embed.proj.bias", &[width], compute)?),
            class_token: reader.take("cls_token", &[1, 1, width], kind)?.view([width]),
            positions: reader.take_because(family.positions, &[1, tokens, width], kind, &why)?.squeeze_dim(0),
            norm: None,
            precision,
        }),
    }
}

fn load_text(
    reader: &mut Reader<'_>,
    tensors: &NamedTensors,
    joint: i64,
    options: &LoadOptions,
) -> Result<TextTower, WeightsError> {
    let kind = options.precision.parameters;
    let [vocabulary, width] = tensors.get("token_embedding.weight")?.size()[..] else {
        return Err(misshapen(tensors, "token_embedding.weight", &[49408, 512], "one row a token"));
    };
    let context = tensors.get("positional_embedding")?.size().first().copied().unwrap_or(0);
    let prefix = "transformer.resblocks";
    let mut blocks = Vec::new();
    for i in 0..count_blocks(tensors, prefix) {
        let (precision, attention) = (options.precision, Attention::Causal);
        let plan = BlockPlan { family: &CLIP, width, weights: precision.compute, precision, attention };
        blocks.push(plan.load(reader, &format!("{prefix}.{i}"))?);
    }
    Ok(TextTower {
        tokens: reader.take_as_is("token_embedding.weight", &[vocabulary, width])?,
        positions: reader.take("positional_embedding", &[context, width], kind)?,
        blocks,
        norm: load_norm(reader, "ln_final", width, CLIP.eps, kind)?,
        projection: reader.take("text_projection", &[width, joint], kind)?,
        logit_scale: reader.take("logit_scale", &[], kind)?,
    })
}

/// What a block is built from.
#[derive(Clone, Copy)]
struct BlockPlan {
    family: &'static Family,
    width: i64,
    weights: Kind,
    precision: Precision,
    attention: Attention,
}

impl BlockPlan {
    fn load(&self, reader: &mut Reader<'_>, prefix: &str) -> Result<Block, WeightsError> {
        let fields = self.family.names.fields().into_iter().zip(self.shapes());
        let read = |(field, (shape, kind)): (&str, (Vec<i64>, Kind))| {
            reader.take(&format!("{prefix}.{field}"), &shape, kind)
        };
        Ok(self.assemble(fields.map(read).collect::<Result<Vec<_>, _>>()?))
    }

    /// The block's tensors as they lie in the file, of which a part is to be kept.
    fn in_file(&self, reader: &mut Reader<'_>, prefix: &str) -> Result<Vec<Tensor>, WeightsError> {
        let fields = self.family.names.fields().into_iter().zip(self.shapes());
        let view =
            |(field, (shape, _)): (&str, (Vec<i64>, Kind))| reader.view(&format!("{prefix}.{field}"), &shape);
        fields.map(view).collect()
    }

    /// Shapes and kinds of the twelve tensors: norms are kept in the kind of parameters.
    fn shapes(&self) -> Vec<(Vec<i64>, Kind)> {
        let (w, hidden) = (self.width, 4 * self.width);
        let norm = || [(vec![w], self.precision.parameters), (vec![w], self.precision.parameters)];
        let linear = |out, input| [(vec![out, input], self.weights), (vec![out], self.weights)];
        [norm(), linear(3 * w, w), linear(w, w), norm(), linear(hidden, w), linear(w, hidden)].concat()
    }

    /// # Panics
    /// If there are not twelve tensors, as many as [`shapes`](Self::shapes) has.
    fn assemble(&self, tensors: Vec<Tensor>) -> Block {
        let tensors: [Tensor; 12] = tensors.try_into().expect("a block has twelve tensors");
        let Self { family, attention, precision, .. } = *self;
        Block::from_tensors(tensors, family.eps, family.activation, attention, precision)
    }
}

fn load_norm(
    reader: &mut Reader<'_>,
    prefix: &str,
    width: i64,
    eps: f64,
    kind: Kind,
) -> Result<LayerNorm, WeightsError> {
    let weight = reader.take(&format!("{prefix}.weight"), &[width], kind)?;
    Ok(LayerNorm::new(weight, reader.take(&format!("{prefix}.bias"), &[width], kind)?, eps))
}
