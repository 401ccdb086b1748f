//! Opens a run from a resolved configuration: data, weights, model and head, the same on all ranks.

use crate::config::{
    AccumulationName, Config, DecodeName, Determinism, KernelsName, LayoutName, MicroBatchSize,
    PrecisionName, ResidualName, Resolved,
};
use crate::data::loader::LoaderOptions;
use crate::data::order::Order;
use crate::data::source::{ContentSample, DataSet, Finding, Severity, Split, counts};
use crate::data::transform::{DecodeMode, ImageView, TrainView};
use crate::engine::eval::bad_images::{BadImages, ImageSet, look_for_files};
use crate::engine::eval::views;
use crate::engine::failure::{Failure, agreed};
use crate::engine::gpu::{arithmetic, compiled_kernels};
use crate::engine::memory::MemoryOptions;
use crate::engine::panics;
use crate::engine::rank::Rank;
use crate::engine::setup::attention::{self, AttentionShape};
use crate::engine::setup::backbone::BackboneFile;
use crate::engine::setup::bf16;
use crate::engine::setup::cuda_graphs;
use crate::engine::setup::frozen_products::{self, Probe};
use crate::engine::setup::head_init::{InitialValues, PreparedInit};
use crate::engine::setup::loader_plan::{LoaderPlan, workers};
use crate::engine::setup::loss;
use crate::engine::setup::micro_batch;
use crate::engine::setup::placement::{Placement, PlacementSizes};
use crate::engine::setup::rank_consistency::{same_backbone, same_configuration, same_data, same_program};
use crate::engine::step::batch_plan::BatchPlan;
use crate::engine::step::block_gather::BlockGather;
use crate::engine::step::classifier::Classifier;
use crate::engine::step::pass::Pass;
use crate::engine::step::shard_tree::ShardTree;
use crate::engine::step::step_parts::EpochLoss;
use crate::engine::training::frozen::FrozenWeights;
use crate::engine::training::progress::RunIdentity;
use crate::model::Model;
use crate::model::backbone_config::BackboneConfig;
use crate::model::loading::{Backbone, LoadOptions, block_elements, block_names, load};
use crate::model::precision::{Kernels, Precision};
use crate::model::tower::TowerShape;
use crate::model::tuners::{self, TunerSet};
use crate::run::Views;
use crate::weights::TensorLayout;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use tch::Device;

use crate::engine::setup::sources;

/// Everything a run needs before its first step.
pub struct Session {
    /// The configuration.
    pub config: Config,
    /// Names in label order.
    pub class_names: Vec<String>,
    /// Training data.
    pub train: Arc<Split>,
    /// Test data.
    pub test: Arc<Split>,
    /// The initialised model.
    pub model: Model,
    /// Checksums of its frozen weights at the start.
    pub frozen: FrozenWeights,
    /// The ranks over which its blocks are sharded.
    pub shards: Option<BlockGather>,
    /// The order of training samples.
    pub order: Arc<Order>,
    /// Fingerprint of the weights' file.
    pub weights_fingerprint: String,
    /// How the backbone is computed.
    pub backbone: BackboneConfig,
    /// The layout of the names of its tensors.
    pub layout: TensorLayout,
    /// The same as text.
    pub backbone_config: String,
    /// Fingerprint of the data set's lists.
    pub data_fingerprint: String,
    /// Images left out so far: their files are missing, or the head initialisation could not read them.
    pub bad_images: BadImages,
    /// Sizes and some bytes of some of its images.
    pub data_sample: ContentSample,
    /// Notes about the interpretation of the data and about automatic decisions.
    pub notes: Vec<String>,
}

/// A data set, and what identifies it.
struct OpenedData {
    data: DataSet,
    fingerprint: String,
    sample: ContentSample,
}

/// Purpose of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionPurpose {
    /// A run from its start.
    Train,
    /// A run that resumes: its head needs no initialisation.
    Resume,
    /// An evaluation of trained tensors: only its images are read.
    Evaluate,
    /// A use of trained tensors without a data set, for images that the user names or for none.
    Apply,
}

impl SessionPurpose {
    /// Images that will be read; `evaluated` are those of the evaluations.
    fn images(self, evaluated: ImageSet) -> Vec<ImageSet> {
        match self {
            Self::Train | Self::Resume if evaluated == ImageSet::Test => {
                vec![ImageSet::Training, ImageSet::Test]
            }
            Self::Train | Self::Resume => vec![ImageSet::Training],
            Self::Evaluate => vec![evaluated],
            Self::Apply => Vec::new(),
        }
    }
}

impl Session {
    /// Opens data and weights, builds the model and initialises its head. All ranks agree on every failure.
    ///
    /// `report` prints a message during the work.
    pub fn open(
        resolved: &Resolved,
        rank: &Rank,
        purpose: SessionPurpose,
        report: &dyn Fn(&str),
    ) -> Result<Self, Failure> {
        Self::begin(resolved, rank)?;
        let data = agreed(&rank.control, || sources::open_data(&resolved.config))?;
        let (fingerprint, sample) = (data.fingerprint(), data.content_sample());
        same_data(rank, &data, &fingerprint, &sample)?;
        agreed(&rank.control, || fits(&resolved.config, rank))?;
        Self::of_data(resolved, rank, purpose, OpenedData { data, fingerprint, sample }, report)
    }

    /// Opens the weights and builds the model for `data` that are not a data set on disk: the classes of a run, and
    /// images that the user names. All ranks have the same.
    pub fn apply(
        resolved: &Resolved,
        rank: &Rank,
        data: DataSet,
        report: &dyn Fn(&str),
    ) -> Result<Self, Failure> {
        Self::begin(resolved, rank)?;
        let opened = OpenedData { data, fingerprint: String::new(), sample: ContentSample::default() };
        Self::of_data(resolved, rank, SessionPurpose::Apply, opened, report)
    }

    fn begin(resolved: &Resolved, rank: &Rank) -> Result<(), Failure> {
        same_program(rank)?;
        same_configuration(rank, resolved)
    }

    fn of_data(
        resolved: &Resolved,
        rank: &Rank,
        purpose: SessionPurpose,
        opened: OpenedData,
        report: &dyn Fn(&str),
    ) -> Result<Self, Failure> {
        let OpenedData { data, fingerprint: data_fingerprint, sample: data_sample } = opened;
        let mut config = resolved.config.clone();
        bf16::settle(&mut config, rank)?;
        panics::set_limits(MemoryOptions::of(&config));
        agreed(&rank.control, || {
            attention::check(&config, rank.device, purpose).map_err(Failure::input)?;
            frozen_products::check(&config, rank.device, purpose).map_err(Failure::input)?;
            arithmetic::apply(&config, rank.device).map_err(Failure::input)
        })?;
        let trains = matches!(purpose, SessionPurpose::Train | SessionPurpose::Resume);
        if trains {
            agreed(&rank.control, || {
                cuda_graphs::check_device(&config, rank.device).map_err(Failure::input)
            })?;
        }
        let prepared = PreparedInit::of_run(&config, &data, purpose, rank)?;
        let wanted = purpose.images(views::images(config.eval.split));
        let bad_images = look_for_files(&config, &data, &wanted, rank)?;
        rank.begin("init");
        let DataSet { class_names, train, test, findings } = data;
        let mut notes = report_findings(findings, rank);
        let (train, test) = (Arc::new(train), Arc::new(test));
        let classes = class_names.len();
        let order =
            agreed(&rank.control, || sources::open_order(&config, train.labels(), classes).map(Arc::new))?;
        if trains {
            notes.extend(loss::absent_note(&config, &order));
        }
        let file = agreed(&rank.control, || BackboneFile::open(resolved))?;
        same_backbone(rank, &file)?;
        file.enter(&mut config);
        agreed(&rank.control, || prepared.check(&config, (&class_names, &train), Some(file.width()?)))?;
        let (mut backbone, tuners, placement) = load_backbone(&config, &file, classes, rank)?;
        notes.extend(notes_of((&file, &backbone, &placement), &config, rank));
        if let Some((kernels, note)) = compiled_kernels::prepare(&config, rank, backbone.vision.shape())? {
            backbone.vision.use_gpu_kernels(kernels);
            notes.push(note);
        }
        let shards = placement.backbone.as_ref().map(|group| BlockGather::new(Rc::clone(group)));
        let mut start = InitialValues {
            config: &config,
            rank,
            class_names: &class_names,
            train: &train,
            prepared,
            fingerprint: &file.fingerprint,
            bad_images: RefCell::new(bad_images),
            report,
        };
        let model = start.model(backbone, tuners, placement.classes, shards.as_ref())?;
        let bad_images = start.bad_images.into_inner();
        let frozen = FrozenWeights::of(&model);
        let mut session = Self {
            config,
            class_names,
            train,
            test,
            model,
            frozen,
            shards,
            order,
            weights_fingerprint: file.fingerprint,
            backbone_config: file.config.to_string(),
            backbone: file.config,
            layout: file.layout,
            data_fingerprint,
            bad_images,
            data_sample,
            notes,
        };
        if trains {
            agreed(&rank.control, || cuda_graphs::check_model(&session).map_err(Failure::input))?;
            session.settle_micro_batch(rank)?;
        }
        session.settle_attention(rank, purpose)?;
        session.settle_frozen_products(rank, purpose)?;
        Ok(session)
    }

    /// Replaces `train.micro_batch_size = "auto"` by what fits. Collective.
    fn settle_micro_batch(&mut self, rank: &Rank) -> Result<(), Failure> {
        if !micro_batch::is_wanted(&self.config)? {
            return Ok(());
        }
        let most = self.plan(rank).most_at_once();
        let (images, why) = micro_batch::that_fits(&self.config, rank, self.pass(), most)?;
        self.config.train.micro_batch_size = MicroBatchSize::Images(images);
        panics::set_limits(MemoryOptions::of(&self.config));
        self.notes.push(why);
        Ok(())
    }

    /// Replaces `train.attention = "auto"` by a kernel, or checks the one it names. Collective.
    fn settle_attention(&mut self, rank: &Rank, purpose: SessionPurpose) -> Result<(), Failure> {
        let shape = self.attention_shape(self.plan(rank).most_at_once());
        self.notes.extend(attention::settle(&mut self.config, rank, purpose, shape)?);
        Ok(())
    }

    /// Computes frozen layers as `train.frozen_products` says, and replaces `auto` by what was found. Collective.
    fn settle_frozen_products(&mut self, rank: &Rank, purpose: SessionPurpose) -> Result<(), Failure> {
        let images = self.plan(rank).most_at_once() as i64;
        let probe = Probe { images, side: i64::from(self.config.model.resolution) };
        let note = frozen_products::settle(&mut self.config, (rank, purpose), &mut self.model, probe)?;
        self.notes.extend(note);
        Ok(())
    }

    /// Attention of the blocks in a pass of so many images.
    fn attention_shape(&self, images: u64) -> AttentionShape {
        let (width, heads) = (self.model.tower().shape().width, self.backbone.vision.heads);
        AttentionShape {
            images: images as i64,
            tokens: self.model.tokens_in_blocks(),
            heads,
            head_width: width / heads,
            kind: self.model.precision().compute,
        }
    }

    /// The identity of its checkpoints; `config` is the resolved configuration.
    pub fn identity(&self, config: String) -> RunIdentity {
        RunIdentity {
            config,
            backbone_fingerprint: self.weights_fingerprint.clone(),
            backbone_config: Some(self.backbone_config.clone()),
            data_fingerprint: self.data_fingerprint.clone(),
            data_sample: Some(self.data_sample.clone()),
        }
    }

    /// Training images of each class.
    pub fn train_counts(&self) -> Vec<u64> {
        counts(self.train.labels(), self.class_names.len())
    }

    /// Forward and backward pass through the model.
    pub fn pass(&self) -> Pass<'_> {
        Pass::new(&self.model, self.shards.as_ref()).recomputing(self.config.train.recompute)
    }

    /// From features to losses and classes, for at most `most` samples of a rank at once.
    pub fn classifier(&self, rank: &Rank, most: u64) -> Classifier {
        if self.model.classes_are_sharded() {
            Classifier::ClassSharded { group: Rc::clone(&rank.group), most: most as i64 }
        } else {
            Classifier::Replicated
        }
    }

    /// The steps of the run, and this rank's part of each.
    pub fn plan(&self, rank: &Rank) -> BatchPlan {
        let train = &self.config.train;
        let (world, number) = (rank.world_size() as u64, rank.number() as u64);
        let tree = shard_tree(&self.config, rank);
        BatchPlan {
            order: Arc::clone(&self.order),
            batch_size: train.batch_size,
            epochs: train.epochs,
            micro_batch_size: train.images_at_once(),
            shards: tree.map_or(world, |_| train.virtual_shards),
            own: tree.map_or(number..number + 1, |tree| tree.of_rank(number)),
            most: tree.map_or(1, |tree| tree.most()),
        }
    }

    /// Settings of a loader on this rank.
    pub fn loader(&self, view: ImageView, rank: &Rank) -> LoaderPlan {
        loader_plan(&self.config, view, rank)
    }

    /// The objective of an epoch: with `loss.prior = "sampler"` it depends on the samples of that epoch.
    pub fn loss(&self, epoch: u64) -> EpochLoss {
        let place = (self.model.precision().parameters, self.model.device());
        let loss = loss::of_epoch(&self.config, &self.order, epoch, place);
        EpochLoss { loss, distribution: self.order.distribution(epoch) }
    }

    /// The images of evaluations, and the part of the data set that they are.
    pub fn evaluated(&self) -> (&Arc<Split>, ImageSet) {
        let images = views::images(self.config.eval.split);
        (if images == ImageSet::Test { &self.test } else { &self.train }, images)
    }

    /// The view of an image in evaluations.
    pub fn eval_view(&self) -> ImageView {
        views::view(&self.config, self.patch())
    }

    /// Description of the images and views of evaluations.
    pub fn views(&self) -> Views {
        views::described(&self.config, self.patch())
    }

    fn patch(&self) -> u32 {
        u32::try_from(self.model.tower().shape().patch).unwrap_or(u32::MAX)
    }

    /// The view of training images.
    pub fn train_view(&self) -> ImageView {
        let (size, filter, seed) =
            (self.config.model.resolution, sources::filter(&self.config), self.config.train.seed);
        // Images that are drawn need no decoding: the option is not theirs.
        let drawn = self.config.data.layout == LayoutName::Demo;
        let decode = match self.config.data.decode {
            DecodeName::Fast if !drawn => DecodeMode::Fast,
            _ => DecodeMode::Exact,
        };
        ImageView::Train(TrainView { size, filter, seed, decode })
    }
}

/// Warns of findings in the data, once for all ranks; returns the notes.
fn report_findings(findings: Vec<Finding>, rank: &Rank) -> Vec<String> {
    let (warnings, notes): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| finding.weight == Severity::Warning);
    for warning in warnings.iter().filter(|_| rank.leads()) {
        tracing::warn!("{}", warning.text);
    }
    notes.into_iter().map(|note| note.text).collect()
}

/// Notes about the backbone, its placement and how it is computed.
fn notes_of(
    (file, backbone, placement): (&BackboneFile, &Backbone, &Placement),
    config: &Config,
    rank: &Rank,
) -> Vec<String> {
    let mut notes = file.notes.clone();
    notes.extend(zeros_note(&backbone.all_zero));
    notes.extend(placement.notes.iter().cloned());
    if rank.leads() && config.train.precision == PrecisionName::Bf16 {
        notes.extend(bf16::slower_than_fp32(rank.device));
    }
    notes
}

/// The tree in which the virtual shards of a batch are added, under `any_world`.
pub fn shard_tree(config: &Config, rank: &Rank) -> Option<ShardTree> {
    let any_world = config.train.determinism == Determinism::AnyWorld;
    any_world.then(|| ShardTree::new(config.train.virtual_shards, rank.world_size() as u64))
}

/// Opens the backbone, and determines its placement and the tuner. Collective.
fn load_backbone(
    config: &Config,
    file: &BackboneFile,
    classes: usize,
    rank: &Rank,
) -> Result<(Backbone, TunerSet, Placement), Failure> {
    let tuners = agreed(&rank.control, || tuners(config, file, classes))?;
    let sizes = sizes(config, file, file.layers() - tuners.whole_blocks(file.layers()), classes)?;
    let placement = Placement::choose(config, rank, sizes)?;
    let options = LoadOptions { part: placement.part(), ..load_options(config, file, rank.device) };
    let load = || load(&file.tensors, file.layout, &options, &tuners).map_err(Failure::input);
    let backbone = agreed(&rank.control, load)?;
    if backbone.slices.is_none() && placement.backbone.is_some() {
        let message = "backbone.placement has nothing to shard, because tuner.kind=full trains every block\nhint: use replicated";
        return Err(Failure::input(message).on_all_ranks());
    }
    Ok((backbone, tuners, placement))
}

/// Sizes that determine the placement of backbone and classifier.
fn sizes(
    config: &Config,
    file: &BackboneFile,
    frozen: usize,
    classes: usize,
) -> Result<PlacementSizes, Failure> {
    let TowerShape { width, hidden, .. } = file.shape().map_err(Failure::on_all_ranks)?;
    let precision = precision(config);
    let blocks = frozen as u64 * block_elements(width, hidden) * precision.compute.elt_size_in_bytes() as u64;
    let element = precision.parameters.elt_size_in_bytes() as u64;
    Ok(PlacementSizes { blocks, classes: classes as i64, width, element })
}

/// Settings of a loader for this configuration.
pub(crate) fn loader_plan(config: &Config, view: ImageView, rank: &Rank) -> LoaderPlan {
    let data = &config.data;
    let workers = match data.workers {
        0 => workers(rank.device, rank.cores, rank.threads),
        workers => workers as usize,
    };
    LoaderPlan { view, options: LoaderOptions { workers, prefetch: data.prefetch as usize } }
}

/// Checks the consistency of configuration, data and world size before anything is loaded.
fn fits(config: &Config, rank: &Rank) -> Result<(), Failure> {
    let (batch, world) = (config.train.batch_size, rank.world_size() as u64);
    if batch < world {
        return Err(Failure::input(format!(
            "train.batch_size is {batch}, less than the {world} ranks\nhint: raise it or start fewer ranks"
        )));
    }
    let shards = config.train.virtual_shards;
    if config.train.determinism == Determinism::AnyWorld && shards < world {
        return Err(Failure::input(format!(
            "train.virtual_shards is {shards}, less than the {world} ranks\nhint: raise it"
        )));
    }
    if config.train.accumulation == AccumulationName::Official && world > 1 {
        return Err(Failure::input(format!(
            "train.accumulation=official needs one rank, found {world} ranks\nhint: use train.accumulation=exact"
        )));
    }
    Ok(())
}

/// The kinds that the configuration names.
pub(crate) fn precision(config: &Config) -> Precision {
    let kinds = match config.train.precision {
        // TF32 is a setting of libtorch, not an element type.
        // `auto` is replaced before anything is opened; without a rank, it is what every device has.
        PrecisionName::Fp32 | PrecisionName::Tf32 | PrecisionName::Auto => Precision::FP32,
        PrecisionName::Bf16 => Precision::BF16,
        PrecisionName::Fp16 => Precision::FP16,
        PrecisionName::Fp64 => Precision::FP64,
    };
    let kernels = match config.train.kernels {
        KernelsName::Fused => Kernels::Fused,
        KernelsName::Plain => Kernels::Plain,
    };
    let of_products = kinds == Precision::BF16 && config.train.residual == ResidualName::Bf16;
    let kinds = if of_products { kinds.with_residual_of_products() } else { kinds };
    Precision { kernels, ..kinds }
}

/// The tuner.
pub(crate) fn tuners(config: &Config, file: &BackboneFile, classes: usize) -> Result<TunerSet, Failure> {
    let shape = file.shape()?;
    let blocks = config.tuner.partial.blocks(shape.layers).map_err(Failure::input)?;
    let site =
        tuners::TunerContext { shape, names: block_names(file.layout), classes: classes as u64, blocks };
    TunerSet::of(&config.tuner.kinds, &config.methods, &site).map_err(Failure::input)
}

/// How the backbone is loaded for this configuration.
pub(crate) fn load_options(config: &Config, file: &BackboneFile, device: Device) -> LoadOptions {
    LoadOptions { precision: precision(config), device, config: file.config.clone(), part: None }
}

/// Warns of tensors that have only zeros: correct in a few models, and a sign of a partly written file.
pub(crate) fn zeros_note(names: &[String]) -> Option<String> {
    const MOST: usize = 4;
    let shown = names.iter().take(MOST).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let more = if names.len() > MOST { ", ..." } else { "" };
    (!names.is_empty())
        .then(|| format!("warning: {} tensors of the backbone hold only zeros: {shown}{more}", names.len()))
}
