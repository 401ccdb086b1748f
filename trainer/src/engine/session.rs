//! A run made ready: data, weights, model and head, from a resolved configuration, on all ranks alike.

use super::failure::{Failure, agreed};
use super::feed::{list_requests, to_device};
use super::head_start::{ClassMeans, class_tokens, text_features, text_rows};
use super::loading::LoaderPlan;
use super::rank::Rank;
use crate::config::{
    Accumulation, Config, HeadInit, HeadKind, LossKind, Precision as PrecisionName, Prior, Resolved,
    TunerKind as TunerName, auto_adapter_dim,
};
use crate::data::loader::{BadImages, LoaderOptions};
use crate::data::order::Order;
use crate::data::source::{DataSet, Split, counts};
use crate::data::transform::{TestView, TrainView, View};
use crate::model::head::HEAD_WEIGHT;
use crate::model::loading::{Backbone, LoadOptions, load, vision_layers};
use crate::model::loss::Loss;
use crate::model::precision::Precision;
use crate::model::text::TextTower;
use crate::model::tuner::TunerKind;
use crate::model::{self, Model, ModelSpec};
use crate::weights::{Layout, NamedTensors};
use std::sync::Arc;
use tch::{Device, Tensor};

use super::sources;

/// Everything a run needs before its first step.
pub struct Session {
    /// The configuration.
    pub config: Config,
    /// Names in label order.
    pub class_names: Vec<String>,
    /// What is trained on.
    pub train: Arc<Split>,
    /// What is tested on.
    pub test: Arc<Split>,
    /// The model with its first values.
    pub model: Model,
    /// The order of training samples.
    pub order: Arc<Order>,
    /// Fingerprint of the weights' file.
    pub weights_fingerprint: String,
}

impl Session {
    /// Opens data and weights, builds the model and starts its head. Every failure is agreed on by all ranks.
    pub fn open(resolved: &Resolved, rank: &Rank) -> Result<Self, Failure> {
        let config = resolved.config.clone();
        same_everywhere(
            rank,
            "configuration",
            &resolved.hash(),
            "start all ranks with the same arguments and files",
        )?;
        let data = agreed(&rank.control, || sources::open_data(&config))?;
        same_everywhere(
            rank,
            "data set",
            &data.fingerprint(),
            "data.root has to hold the same files on every host",
        )?;
        agreed(&rank.control, || fits(&config, rank))?;
        let DataSet { class_names, train, test } = data;
        let (train, test) = (Arc::new(train), Arc::new(test));
        let classes = class_names.len();
        let order =
            agreed(&rank.control, || sources::open_order(&config, train.labels(), classes).map(Arc::new))?;
        let (tensors, layout) = agreed(&rank.control, || sources::open_weights(&config))?;
        let fingerprint = fingerprint(rank, &tensors)?;
        let tuner = agreed(&rank.control, || tuner(&config, &tensors, layout, classes))?;
        let backbone = agreed(&rank.control, || {
            load(&tensors, layout, &load_options(&config, &tuner, rank.device)).map_err(Failure::input)
        })?;
        let start = Start { config: &config, rank, class_names: &class_names, train: &train };
        let model = start.model(backbone, tuner)?;
        Ok(Self { config, class_names, train, test, model, order, weights_fingerprint: fingerprint })
    }

    /// Training images of each class.
    pub fn train_counts(&self) -> Vec<u64> {
        counts(self.train.labels(), self.class_names.len())
    }

    /// A loader's set-up on this rank.
    pub fn loader(&self, view: View, bad_images: BadImages, rank: &Rank) -> LoaderPlan {
        loader_plan(&self.config, view, bad_images, rank)
    }

    /// The objective of an epoch: with `loss.prior = "sampler"` it follows what that epoch draws.
    pub fn loss(&self, epoch: u64) -> Loss {
        let (kind, device) = (self.model.precision().parameters, self.model.device());
        let prior = match (self.config.loss.kind, self.config.loss.prior) {
            (LossKind::CrossEntropy, _) => return Loss::CrossEntropy,
            (LossKind::LogitAdjusted, Prior::Sampler) => self.order.distribution(epoch),
            (LossKind::LogitAdjusted, Prior::Counts) => {
                self.train_counts().into_iter().map(|n| n as f64).collect()
            }
        };
        Loss::logit_adjusted(&prior, self.config.loss.tau, kind, device)
    }

    /// The view of test images.
    pub fn test_view(&self) -> View {
        test_view(&self.config)
    }

    /// The view of training images.
    pub fn train_view(&self) -> View {
        let (size, filter, seed) =
            (self.config.model.resolution, sources::filter(&self.config), self.config.train.seed);
        View::Train(TrainView { size, filter, seed })
    }
}

fn loader_plan(config: &Config, view: View, bad_images: BadImages, rank: &Rank) -> LoaderPlan {
    let data = &config.data;
    let workers = if data.workers > 0 { data.workers as usize } else { rank.threads.clamp(1, 8) };
    LoaderPlan { view, options: LoaderOptions { workers, prefetch: data.prefetch as usize, bad_images } }
}

fn test_view(config: &Config) -> View {
    View::Test(TestView::lift(config.model.resolution, sources::filter(config)))
}

/// Refuses ranks that were started differently: what rank 0 has is what all must have.
fn same_everywhere(rank: &Rank, what: &str, own: &str, remedy: &str) -> Result<(), Failure> {
    let all = rank.control.all_gather(own.as_bytes())?;
    match all.iter().position(|other| *other != all[0]) {
        None => Ok(()),
        Some(other) => {
            let message = format!("rank {other} has another {what} than rank 0; {remedy}");
            Err(Failure::input(message).on_all_ranks())
        }
    }
}

/// What has to hold between configuration, data and world before anything is loaded.
fn fits(config: &Config, rank: &Rank) -> Result<(), Failure> {
    let (batch, world) = (config.train.batch_size, rank.world_size() as u64);
    if batch < world {
        return Err(Failure::input(format!(
            "train.batch_size is {batch}, less than the {world} ranks; raise it or start fewer ranks"
        )));
    }
    if config.train.accumulation == Accumulation::Official && world > 1 {
        return Err(Failure::input(format!(
            "train.accumulation=official describes one process, found {world} ranks; use train.accumulation=exact"
        )));
    }
    Ok(())
}

fn precision(config: &Config) -> Precision {
    match config.train.precision {
        PrecisionName::Fp32 => Precision::FP32,
        PrecisionName::Bf16 => Precision::BF16,
        PrecisionName::Fp64 => Precision::FP64,
    }
}

/// Rank 0 reads the whole file once; the others take its word.
fn fingerprint(rank: &Rank, tensors: &NamedTensors) -> Result<String, Failure> {
    let own = if rank.leads() { tensors.fingerprint() } else { String::new() };
    let bytes = rank.control.broadcast(own.into_bytes(), 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn tuner(
    config: &Config,
    tensors: &NamedTensors,
    layout: Layout,
    classes: usize,
) -> Result<TunerKind, Failure> {
    let depth = vision_layers(tensors, layout);
    let layers = config.tuner.partial.blocks(depth).map_err(Failure::input)?;
    Ok(match config.tuner.kind {
        TunerName::None => TunerKind::None,
        TunerName::Full => TunerKind::Full { layers },
        TunerName::Adaptformer => {
            // LIFT divides by the full depth, also where `partial` tunes fewer blocks.
            let auto = auto_adapter_dim(classes as u64, depth as u64);
            let dim = if config.tuner.adapter_dim > 0 { u64::from(config.tuner.adapter_dim) } else { auto };
            TunerKind::AdaptFormer { dim: dim as i64, layers }
        }
    })
}

/// How the backbone is loaded for this configuration and tuner.
pub(crate) fn load_options(config: &Config, tuner: &TunerKind, device: Device) -> LoadOptions {
    LoadOptions {
        precision: precision(config),
        device,
        trained: tuner.trained_blocks(),
        resolution: i64::from(config.model.resolution),
    }
}

/// What the first values of the model are made from.
struct Start<'a> {
    config: &'a Config,
    rank: &'a Rank,
    class_names: &'a [String],
    train: &'a Arc<Split>,
}

impl Start<'_> {
    fn model(&self, mut backbone: Backbone, tuner: TunerKind) -> Result<Model, Failure> {
        let config = self.config;
        let text = backbone.text.take();
        let init = config.head.init.resolve(text.is_some());
        let zero_shot = config.head.kind == HeadKind::ZeroShot;
        let text = if zero_shot || init == HeadInit::Text {
            Some(self.class_features(text.as_ref())?)
        } else {
            None
        };
        let head = match &text {
            Some((features, scale)) if zero_shot => {
                model::HeadKind::ZeroShot { text: features.shallow_clone(), scale: scale.shallow_clone() }
            }
            _ => model::HeadKind::Cosine { scale: config.head.scale },
        };
        let spec = ModelSpec {
            tuner,
            head,
            classes: self.class_names.len() as i64,
            seed: config.train.seed,
            pixels: (config.model.mean, config.model.std),
            precision: precision(config),
            device: self.rank.device,
        };
        let model = agreed(&self.rank.control, || Model::build(backbone, spec).map_err(Failure::input))?;
        if !zero_shot && let Some(rows) = self.head_rows(init, text, &model)? {
            model.trainables().set(HEAD_WEIGHT, &rows).map_err(Failure::run)?;
        }
        Ok(model)
    }

    /// First rows of the cosine head; `None` leaves the random ones.
    fn head_rows(
        &self,
        init: HeadInit,
        text: Option<(Tensor, Tensor)>,
        model: &Model,
    ) -> Result<Option<Tensor>, Failure> {
        Ok(match (init, text, &model.vision().projection) {
            (HeadInit::Text, Some((features, _)), Some(projection)) => Some(text_rows(&features, projection)),
            (HeadInit::ClassMean, ..) => Some(self.class_means(model)?),
            _ => None,
        })
    }

    /// Unit text features of the classes, and the factor on cosines.
    fn class_features(&self, text: Option<&TextTower>) -> Result<(Tensor, Tensor), Failure> {
        let tower = text.ok_or_else(|| {
            Failure::input("the weights have no text tower; use head.init=class_mean, or a CLIP model")
                .on_all_ranks()
        })?;
        let ids = agreed(&self.rank.control, || {
            let tokenizer = sources::tokenizer(self.config)?;
            let prompt = &self.config.head.prompt;
            class_tokens(tower, &tokenizer, prompt, self.class_names).map_err(Failure::input)
        })?;
        Ok((text_features(tower, &ids, self.rank.group.as_ref())?, tower.scale()))
    }

    /// Unit mean features of the classes over all training images, each in the view of tests.
    fn class_means(&self, model: &Model) -> Result<Tensor, Failure> {
        let (config, rank) = (self.config, self.rank);
        let (len, world) = (self.train.len() as u64, rank.world_size() as u64);
        let requests = list_requests(len, world, rank.number() as u64, config.eval.batch_size);
        let loader = loader_plan(config, test_view(config), BadImages::Stop, rank);
        let mut means = ClassMeans::new(model, self.class_names.len() as i64);
        agreed(&rank.control, || {
            let mut loader = loader.start(Arc::clone(self.train), requests)?;
            while let Some(batch) = loader.next() {
                rank.check_requests()?;
                let part =
                    to_device(&batch.map_err(Failure::run)?, i64::from(config.model.resolution), rank.device);
                means.add(model, &part.bytes, &part.labels);
            }
            Ok(())
        })?;
        means.rows(rank.group.as_ref())?.map_err(|class| {
            let name = &self.class_names[class as usize];
            let remedy = "use head.init=text or head.init=random";
            let message = format!("class {class} (`{name}`) has no training image to start from; {remedy}");
            Failure::input(message).on_all_ranks()
        })
    }
}
