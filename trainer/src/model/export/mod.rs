//! Tuned models in the formats of other programs.
//!
//! Tuners are folded into the weights ([`Model::fold`]) before a model is exported, and what cannot be folded stays a
//! module of its own, which only some formats can hold. An [`ExportedModel`] has all tensors of the image tower and of the
//! head in fp32; each format has its own file here and gives the files to write.

pub mod hf_clip;
pub mod onnx;
pub mod open_clip;
pub mod peft;
pub mod plain;
pub mod timm;

use super::Model;
use super::backbone_config::BackboneConfig;
use super::heads::LinearHead;
use super::tower::{Field, TowerShape};
use super::tuners::TunerModule;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Tensors by name, in the order in which they are written.
pub type Tensors = Vec<(String, Tensor)>;

/// A file of an exported model.
#[derive(Debug)]
pub struct ExportedFile {
    /// Its name in the folder of the export.
    pub name: &'static str,
    /// Its content.
    pub content: FileContent,
}

/// The content of a file.
#[derive(Debug)]
pub enum FileContent {
    /// A safetensors file with its metadata.
    Tensors(Tensors, BTreeMap<String, String>),
    /// A JSON file.
    Json(Value),
    /// Any other file.
    Bytes(Vec<u8>),
}

/// A model that a format cannot hold.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A tuner without an equivalent in the format.
    #[error(
        "--format {format} cannot hold the run's {tuner} in block {block}; it holds only the weights of the backbone\nhint: use {instead}, which can hold it"
    )]
    Tuner {
        /// The format.
        format: &'static str,
        /// The tuner.
        tuner: String,
        /// The first block that has it.
        block: usize,
        /// The formats that can.
        instead: &'static str,
    },
    /// A backbone of another kind, or with another property.
    #[error("--format {format} needs {expected}, found {found}\nhint: use {instead}")]
    Backbone {
        /// The format.
        format: &'static str,
        /// What it needs.
        expected: String,
        /// What the run has.
        found: String,
        /// The formats that can hold it.
        instead: &'static str,
    },
    /// Tuners that are no adapter of PEFT.
    #[error(
        "--format peft needs a run with lora, lora_mlp or both, or with ia3 alone, found the tuners {found}\nhint: {instead}"
    )]
    Adapter {
        /// The trained tensors that are neither.
        found: String,
        /// The formats that can hold them.
        instead: &'static str,
    },
    /// More bytes than a file of the format can have.
    #[error(
        "--format onnx holds at most 2 GiB in a file, found a model of {bytes} bytes\nhint: use --format safetensors"
    )]
    TooLarge {
        /// Size of the weights.
        bytes: u64,
    },
}

/// Formats that can hold every tuner.
pub const HOLDS_EVERY_TUNER: &str = "--format safetensors or --format onnx";

/// Patches, the tokens before them, and positions.
#[derive(Debug)]
pub struct ExportedStem {
    /// `[width, 3, patch, patch]`.
    pub patches: Tensor,
    /// `[width]`.
    pub bias: Option<Tensor>,
    /// Class token, `[width]`, without its position.
    pub class_token: Option<Tensor>,
    /// `[registers, width]`, without their positions.
    pub registers: Option<Tensor>,
    /// `[tokens, width]`.
    pub positions: Tensor,
    /// Weight and bias of the norm before the blocks.
    pub norm: Option<(Tensor, Tensor)>,
}

/// A block: its tensors with everything folded in, and the modules beside them.
#[derive(Debug)]
pub struct ExportedBlock {
    /// Its tensors.
    pub tensors: BTreeMap<Field, Tensor>,
    /// The modules of tuners, in the order in which they act.
    pub modules: Vec<TunerModule>,
}

/// The view of an image that the model was evaluated with.
#[derive(Debug, Clone)]
pub struct ExportedView {
    /// Size of the shorter side after the resize.
    pub resize: u32,
    /// `bilinear` or `bicubic`.
    pub filter: String,
}

/// A tuned model in fp32, independent of any format.
#[derive(Debug)]
pub struct ExportedModel {
    /// Sizes of the tower.
    pub shape: TowerShape,
    /// How it is computed.
    pub config: BackboneConfig,
    /// Before the blocks.
    pub stem: ExportedStem,
    /// The blocks.
    pub blocks: Vec<ExportedBlock>,
    /// Weight and bias of the norm after the blocks.
    pub norm: (Tensor, Tensor),
    /// Tensors of attention pooling, by name (`latent`, `q.weight`, ...).
    pub pool: Tensors,
    /// Into the joint space with text, `[width, joint]`.
    pub projection: Option<Tensor>,
    /// The head.
    pub head: LinearHead,
    /// Names in label order.
    pub class_names: Vec<String>,
    /// The view of an image.
    pub view: ExportedView,
}

impl ExportedModel {
    /// The tensors of a folded model, in fp32 in main memory.
    pub fn of(model: &Model, config: BackboneConfig, class_names: Vec<String>, view: ExportedView) -> Self {
        let tower = model.tower();
        let mut outside: BTreeMap<&str, Tensor> =
            tower.outside_blocks().into_iter().map(|(name, tensor)| (name, single(tensor))).collect();
        let mut take = |name: &str| outside.remove(name);
        let mut pair = |name: &str| take(&format!("{name}.weight")).zip(take(&format!("{name}.bias")));
        let norm_pre = pair("norm_pre");
        let norm = pair("norm").expect("every tower ends in a norm");
        let stem = ExportedStem {
            patches: take("patches").expect("every tower has patches"),
            bias: take("patches.bias"),
            class_token: take("class_token"),
            registers: take("registers"),
            positions: take("positions").expect("every tower has positions"),
            norm: norm_pre,
        };
        let projection = take("projection");
        let pool = outside.into_iter();
        let pool = pool.filter_map(|(name, tensor)| Some((name.strip_prefix("pool.")?.to_owned(), tensor)));
        let block = |index| ExportedBlock {
            tensors: tower.block_tensors(index).into_iter().map(|(field, t)| (field, single(t))).collect(),
            modules: model.modules(index),
        };
        Self {
            shape: tower.shape(),
            config,
            stem,
            blocks: (0..tower.shape().layers).map(block).collect(),
            norm,
            pool: pool.collect(),
            projection,
            head: model.linear_head(),
            class_names,
            view,
        }
    }

    /// Refuses modules that `format` cannot hold.
    fn without_modules(&self, format: &'static str) -> Result<(), ExportError> {
        let mut modules = self.blocks.iter().enumerate();
        match modules.find_map(|(block, own)| Some((block, own.modules.first()?.name()))) {
            None => Ok(()),
            Some((block, tuner)) => {
                Err(ExportError::Tuner { format, tuner: tuner.to_owned(), block, instead: HOLDS_EVERY_TUNER })
            }
        }
    }

    /// The tokens before the patches with their positions, `[prefix, width]`; none if there are no such tokens.
    fn prefix(&self) -> Option<Tensor> {
        let prefix = self.shape.prefix();
        let width = self.shape.width;
        let tokens = self.stem.class_token.iter().chain(&self.stem.registers);
        let tokens: Vec<Tensor> = tokens.map(|token| token.view([-1, width])).collect();
        (!tokens.is_empty()).then(|| Tensor::cat(&tokens, 0) + self.stem.positions.narrow(0, 0, prefix))
    }

    /// The positions of the patches, `[patches, width]`.
    fn patch_positions(&self) -> Tensor {
        self.stem.positions.narrow(0, self.shape.prefix(), self.shape.patches())
    }

    /// The head as a file of its own, for programs whose models have no such classifier. Its metadata say how its input
    /// is normalised.
    fn head_file(&self) -> ExportedFile {
        let head = &self.head;
        let mut tensors = vec![("weight".to_owned(), single(&head.weight))];
        tensors.extend(head.bias.iter().map(|bias| ("bias".to_owned(), single(bias))));
        tensors.extend(head.projection.iter().map(|matrix| ("projection".to_owned(), single(matrix))));
        let metadata = BTreeMap::from([
            ("input".to_owned(), head.input.word().to_owned()),
            ("class_names".to_owned(), json!(self.class_names).to_string()),
        ]);
        ExportedFile { name: "head.safetensors", content: FileContent::Tensors(tensors, metadata) }
    }
}

/// A tensor as fp32 in main memory, in one piece.
fn single(tensor: &Tensor) -> Tensor {
    tensor.detach().to_kind(Kind::Float).to_device(tch::Device::Cpu).contiguous()
}

/// The queries, keys and values of a tensor that has them one below the other.
fn thirds(joined: &Tensor) -> [Tensor; 3] {
    let third = joined.size()[0] / 3;
    [0, 1, 2].map(|part| joined.narrow(0, part * third, third).contiguous())
}
