//! Class means by the code that training uses: images from memory through the loader, the walk and the sums over ranks.

use crate::backbone::{backbone, pixel_constants};
use crate::case::Case;
use crate::case::PRECISIONS;
use crate::init::starts_from;
use collectives::World;
use launcher::protocol::Outcome;
use std::sync::Arc;
use tch::{Device, Tensor};
use trainer::config::{Config, Selection};
use trainer::data::decode::RgbImage;
use trainer::data::error::DataError;
use trainer::data::loader::LoaderOptions;
use trainer::data::resize::Filter;
use trainer::data::source::{ImageReader, Split};
use trainer::data::transform::{TestView, View};
use trainer::engine::bad_images::{BadImages, Images, Limit};
use trainer::engine::device::Wish;
use trainer::engine::feed::ListPlan;
use trainer::engine::head_start::class_means;
use trainer::engine::loading::LoaderPlan;
use trainer::engine::pass::Pass;
use trainer::engine::rank::Rank;
use trainer::engine::stopping::Stopping;
use trainer::engine::tree::ShardTree;
use trainer::engine::walk::Walk;
use trainer::model::head::Classes;
use trainer::model::precision::Precision;
use trainer::model::tuners::TunerSet;
use trainer::model::{HeadKind, Model, ModelSpec};

/// Images at once: not a divisor of what the cases have, so that the last batch is short.
const BATCH: u64 = 8;

#[test]
fn golden_init_class_mean() {
    let world = World::start().unwrap();
    let selection =
        Selection { data: "demo".into(), model: "demo".into(), method: "lift".into(), set: Vec::new() };
    let options = Config::resolve(&selection).unwrap().config.distributed;
    let rank = Rank::open(&world, Wish::Cpu, 1, &Ok(()), Stopping::start().unwrap(), &options).unwrap();
    for case in starts_from("-class_mean") {
        for (precision, tolerance) in PRECISIONS {
            check(&case, &rank, precision, tolerance);
        }
    }
}

fn check(case: &Case, rank: &Rank, precision: Precision, tolerance: &str) {
    let spec = ModelSpec {
        tuners: TunerSet::default(),
        head: HeadKind::Cosine { scale: 25.0 },
        classes: Classes::all(case.classes()),
        seed: 0,
        pixels: pixel_constants(case),
        precision,
        device: Device::Cpu,
    };
    let model = Model::build(backbone(case, precision), spec).unwrap();
    case.compare("features", &model.frozen_features(&case.input("image_u8")), tolerance);
    let split = Arc::new(split(case));
    let side = case.input("image_u8").size()[3];
    // The official images are of the size that the model takes: this view leaves them as they are.
    let view = View::Test(TestView { size: side as u32, resize: side as u32, filter: Filter::Bilinear });
    let options = LoaderOptions { workers: 2, prefetch: 2 };
    // By one rank, and as the shards of `any_world`.
    for tree in [None, Some(ShardTree::new(4, 1))] {
        let parts = if tree.is_some() { 4 } else { 1 };
        let plan = ListPlan { len: split.len() as u64, batch_size: BATCH, parts };
        let limit = Limit { most: 0, outcome: Outcome::Failed };
        let loader = LoaderPlan { view, options };
        let walk = Walk { rank, plan, split: &split, images: Images::Training, limit, loader, side };
        let (pass, mut bad) = (Pass::new(&model, None), BadImages::default());
        let rows = class_means(&walk, &pass, case.classes(), tree, &mut bad).unwrap().unwrap();
        case.compare("head_weight", &rows, tolerance);
    }
}

/// The case's images and labels as a training list.
fn split(case: &Case) -> Split {
    let labels = Vec::<i64>::try_from(case.input("label")).unwrap();
    let labels = labels.into_iter().map(|label| label as u32).collect();
    let rows = case.input("image_u8").permute([0, 2, 3, 1]);
    let image = |row: Tensor| {
        let (height, width) = (row.size()[0] as u32, row.size()[1] as u32);
        RgbImage { width, height, pixels: Vec::<u8>::try_from(row.contiguous().flatten(0, -1)).unwrap() }
    };
    Split::from_parts(labels, Box::new(InMemory(rows.unbind(0).into_iter().map(image).collect())))
}

/// Images that need no file.
struct InMemory(Vec<RgbImage>);

impl ImageReader for InMemory {
    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        Ok(self.0[index].clone())
    }
}
