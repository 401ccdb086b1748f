//! Builds an initialised model: chooses and builds the head, and sets its initial rows.

use super::text::{self, ClassPrompts};
use super::{HeadInit, InitContext, InitFacts, choose};
use crate::config::Config;
use crate::data::source::{DataSet, Split, counts};
use crate::engine::eval::bad_images::BadImages;
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::rank_consistency::same_head_files;
use crate::engine::setup::session::{SessionPurpose, precision};
use crate::engine::step::block_gather::BlockGather;
use crate::model::heads::{self, Classes, HEAD_BIAS, HEAD_WEIGHT, TextClasses, linear};
use crate::model::loading::Backbone;
use crate::model::text::TextTower;
use crate::model::tuners::TunerSet;
use crate::model::{Model, ModelSpec};
use std::cell::RefCell;
use std::sync::Arc;

/// The head initialisation before the backbone is loaded; none if the head comes from trained tensors or a checkpoint.
pub struct PreparedInit {
    init: Option<Box<dyn HeadInit>>,
    has_text_tower: bool,
}

impl PreparedInit {
    /// Chooses the initialisation and reads its files. Refuses data, or features of that width, that it cannot use.
    pub fn choose(
        config: &Config,
        has_text_tower: bool,
        data: (&[String], &Split),
        width: Option<i64>,
    ) -> Result<Self, Failure> {
        let prepared = Self { init: Some(choose(config, has_text_tower)?), has_text_tower };
        prepared.check(config, data, width)?;
        Ok(prepared)
    }

    /// The same for a run with that purpose. Collective, with the same result on all ranks.
    pub fn of_run(
        config: &Config,
        data: &DataSet,
        purpose: SessionPurpose,
        rank: &Rank,
    ) -> Result<Self, Failure> {
        let has_text_tower = config.model.kind.has_text_tower();
        // Initial values that are replaced later are not computed, except for a head of texts.
        if purpose != SessionPurpose::Train && config.head.is_trained() {
            return Ok(Self { init: None, has_text_tower });
        }
        let data = (data.class_names.as_slice(), &data.train);
        let prepared = agreed(&rank.control, || Self::choose(config, has_text_tower, data, None))?;
        let fingerprint = prepared.init.as_ref().map(|init| init.fingerprint()).unwrap_or_default();
        same_head_files(rank, &fingerprint)?;
        Ok(prepared)
    }

    /// Refuses data, or features of that width, that the head initialisation cannot use.
    pub fn check(
        &self,
        config: &Config,
        (class_names, train): (&[String], &Split),
        width: Option<i64>,
    ) -> Result<(), Failure> {
        let Some(init) = &self.init else { return Ok(()) };
        let counts = counts(train.labels(), class_names.len());
        let has_bias = config.head.kind.is(&linear::METHOD);
        let weights = config.model.weights.as_deref();
        let has_text_tower = self.has_text_tower;
        init.check(&InitFacts { class_names, counts: &counts, width, has_bias, has_text_tower, weights })
    }
}

/// The inputs of the model's initialisation.
pub struct InitialValues<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// This process.
    pub rank: &'a Rank,
    /// Names in label order.
    pub class_names: &'a [String],
    /// Training data.
    pub train: &'a Arc<Split>,
    /// The head initialisation.
    pub prepared: PreparedInit,
    /// The fingerprint of the backbone's file.
    pub fingerprint: &'a str,
    /// Images that are left out so far.
    pub bad_images: RefCell<BadImages>,
    /// Prints a message.
    pub report: &'a dyn Fn(&str),
}

impl InitialValues<'_> {
    /// Builds the model. Collective.
    pub fn model(
        &mut self,
        mut backbone: Backbone,
        tuners: TunerSet,
        classes: Classes,
        shards: Option<&BlockGather>,
    ) -> Result<Model, Failure> {
        let config = self.config;
        let text = backbone.text.take();
        self.choose_again(text.is_some())?;
        let spec = ModelSpec {
            tuners,
            head: self.head(&backbone, text.as_ref())?,
            classes,
            seed: config.train.seed,
            pixels: (config.model.mean, config.model.std),
            precision: precision(config),
            device: self.rank.device,
        };
        let model = agreed(&self.rank.control, || Model::build(backbone, spec).map_err(Failure::input))?;
        if config.head.is_trained() {
            self.fill(&model, text.as_ref(), shards)?;
        }
        Ok(model)
    }

    /// A CLIP without its text tower is only an image tower; the file shows this, the configuration does not.
    fn choose_again(&mut self, has_text_tower: bool) -> Result<(), Failure> {
        let (config, rank) = (self.config, self.rank);
        if self.prepared.init.is_none() || has_text_tower == self.prepared.has_text_tower {
            return Ok(());
        }
        let data = (self.class_names, self.train.as_ref());
        self.prepared = agreed(&rank.control, || PreparedInit::choose(config, has_text_tower, data, None))?;
        Ok(())
    }

    /// The configured head.
    fn head(
        &self,
        backbone: &Backbone,
        tower: Option<&TextTower>,
    ) -> Result<Box<dyn heads::HeadKind>, Failure> {
        let config = self.config;
        let text = if config.head.is_trained() {
            None
        } else {
            let prompts = agreed(&self.rank.control, || ClassPrompts::open(config))?;
            let text = text::class_features(tower, &prompts, (config, self.class_names), self.rank)?;
            let scale = tower.map(TextTower::scale);
            let projection = backbone.vision.projection();
            projection.zip(scale).map(|(projection, scale)| TextClasses {
                projection: projection.shallow_clone(),
                text,
                scale,
            })
        };
        let head = (config.head.kind.method().make)(&config.methods, text);
        head.map_err(|error| Failure::input(error).on_all_ranks())
    }

    /// Sets the initial values of the head.
    fn fill(
        &self,
        model: &Model,
        text: Option<&TextTower>,
        shards: Option<&BlockGather>,
    ) -> Result<(), Failure> {
        let Some(init) = &self.prepared.init else { return Ok(()) };
        let context = InitContext {
            config: self.config,
            rank: self.rank,
            class_names: self.class_names,
            train: self.train,
            model,
            shards,
            text,
            backbone: self.fingerprint,
            bad_images: &self.bad_images,
            report: self.report,
        };
        if let Some(rows) = init.rows(&context)? {
            model.trainables().set(HEAD_WEIGHT, &rows).map_err(Failure::run)?;
        }
        if let Some(bias) = init.bias() {
            model.trainables().set(HEAD_BIAS, &bias).map_err(Failure::run)?;
        }
        Ok(())
    }
}
