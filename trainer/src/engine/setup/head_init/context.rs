//! The inputs of a head initialisation.

use super::features::Features;
use super::text::{self, ClassPrompts};
use super::view::{self, InitView};
use super::{no_image, without_images};
use crate::config::Config;
use crate::data::source::{Split, counts};
use crate::data::transform::{ImageView, TestView};
use crate::engine::eval::bad_images::{BadImageLimit, BadImages, ImageSet};
use crate::engine::eval::dataset_pass::DatasetPass;
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::session::{loader_plan, shard_tree};
use crate::engine::setup::sources;
use crate::engine::step::batch_plan::ListPlan;
use crate::engine::step::block_gather::BlockGather;
use crate::engine::step::pass::Pass;
use crate::model::Model;
use crate::model::text::TextTower;
use std::cell::RefCell;
use std::sync::Arc;
use tch::Tensor;

/// Data, model and ranks.
pub struct InitContext<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// This process.
    pub rank: &'a Rank,
    /// Names in label order.
    pub class_names: &'a [String],
    /// Training data.
    pub train: &'a Arc<Split>,
    /// The model, with random initial values.
    pub model: &'a Model,
    /// The ranks over which its blocks are sharded.
    pub shards: Option<&'a BlockGather>,
    /// The text tower, if there is one.
    pub text: Option<&'a TextTower>,
    /// The fingerprint of the backbone's file.
    pub backbone: &'a str,
    /// Images that are left out so far.
    pub bad_images: &'a RefCell<BadImages>,
    /// Prints a message.
    pub report: &'a dyn Fn(&str),
}

impl InitContext<'_> {
    /// Number of classes.
    pub fn classes(&self) -> i64 {
        self.class_names.len() as i64
    }

    /// Features of all images of a list, computed by all ranks: of the frozen model, in the configured view, or in the
    /// default view of the initialisation.
    pub fn features<'b>(&'b self, images: &'b Arc<Split>, of_start: InitView) -> Features<'b> {
        let (config, rank) = (self.config, self.rank);
        let tree = shard_tree(config, rank);
        let plan = ListPlan {
            len: images.len() as u64,
            batch_size: config.eval.batch_size,
            parts: tree.map_or(rank.world_size() as u64, |_| config.train.virtual_shards),
        };
        let (size, filter) = (config.model.resolution, sources::filter(config));
        let view = ImageView::Test(match config.options::<view::ViewOptions>().view.or(of_start) {
            InitView::Plain => TestView::plain(size, filter),
            _ => TestView::lift(size, filter),
        });
        let walk = DatasetPass {
            rank,
            plan,
            split: images,
            images: ImageSet::Training,
            limit: BadImageLimit::within(config),
            loader: loader_plan(config, view, rank),
        };
        let pass = Pass::new(self.model, self.shards);
        Features { walk, pass, classes: self.classes(), tree, bad_images: self.bad_images }
    }

    /// Unit text features of the classes, `[classes, joint]`.
    pub fn text_features(&self, prompts: &ClassPrompts) -> Result<Tensor, Failure> {
        text::class_features(self.text, prompts, (self.config, self.class_names), self.rank)
    }

    /// The error for a class without a readable image; the same on all ranks.
    pub fn unread(&self, class: i64) -> Failure {
        let class = class as usize;
        let listed = counts(self.train.labels(), self.class_names.len())[class];
        let instead = without_images(self.text.is_some(), self.config.model.weights.as_deref());
        no_image((class, &self.class_names[class]), listed, &instead).on_all_ranks()
    }

    /// Fails if any rank received a request to stop; all ranks call this between parts of long work.
    pub fn check_requests(&self) -> Result<(), Failure> {
        agreed(&self.rank.control, || self.rank.check_requests())
    }
}
