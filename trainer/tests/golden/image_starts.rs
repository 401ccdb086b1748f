//! Head initialisation from images with the code of the trainer: in-memory images, loader, dataset pass, sums over
//! ranks.

use crate::backbone::backbone;
use crate::case::{Case, PRECISIONS, cases_that};
use crate::peft::spec_of;
use collectives::World;
use protocol::Outcome;
use std::cell::RefCell;
use std::sync::Arc;
use tch::Tensor;
use trainer::config::{Config, Selection};
use trainer::data::decode::RgbImage;
use trainer::data::error::DataError;
use trainer::data::loader::LoaderOptions;
use trainer::data::resize::Filter;
use trainer::data::source::{ImageReader, Split};
use trainer::data::transform::{ImageView, TestView};
use trainer::engine::eval::bad_images::{BadImageLimit, BadImages, ImageSet};
use trainer::engine::eval::dataset_pass::DatasetPass;
use trainer::engine::rank::Rank;
use trainer::engine::setup::device::DeviceChoice;
use trainer::engine::setup::head_init::class_mean::class_means;
use trainer::engine::setup::head_init::features::Features;
use trainer::engine::setup::head_init::linear_probe::{ProbeObjective, collect, fit};
use trainer::engine::setup::head_init::{HeadInits, MakeHeadInit};
use trainer::engine::setup::loader_plan::LoaderPlan;
use trainer::engine::step::batch_plan::ListPlan;
use trainer::engine::step::pass::Pass;
use trainer::engine::step::shard_tree::ShardTree;
use trainer::engine::training::stopping::StopListener;
use trainer::model::Model;
use trainer::model::precision::Precision;
use trainer::model::text::unit_rows;
use trainer::model::tuners::TunerSet;
use trainer::options::{Method, Registry};

/// Batch size: does not divide the number of images of the cases, so the last batch is smaller.
const BATCH: u64 = 8;

#[test]
pub fn golden_init_from_images() {
    let world = World::start().unwrap();
    let selection =
        Selection { data: "demo".into(), model: "demo".into(), method: "lift".into(), set: Vec::new() };
    let options = Config::resolve(&selection).unwrap().config.distributed;
    let rank = Rank::open(&world, DeviceChoice::Cpu, 1, StopListener::start().unwrap(), &options).unwrap();
    for case in cases_that("init", |case| case.has_input("image_u8")) {
        for (precision, tolerance) in PRECISIONS {
            check(&case, &rank, precision, tolerance);
        }
    }
}

/// The head initialisation of the case. LIFT and LIFT+ use the same official name for class means.
fn initialisation_of(case: &Case) -> &'static Method<MakeHeadInit> {
    let config = case.config();
    let official = config["init_head"].as_str().or(config["classifier_init"].as_str()).unwrap();
    HeadInits::of_official(official).unwrap_or_else(|| panic!("{}: initialisation {official}", case.name))
}

fn check(case: &Case, rank: &Rank, precision: Precision, tolerance: &str) {
    let spec = spec_of(case, TunerSet::default(), precision);
    let model = Model::build(backbone(case, precision), spec).unwrap();
    if case.has_output("features") {
        case.compare("features", &model.frozen_features(&case.input("image_u8")), tolerance);
    }
    let split = Arc::new(split(case));
    let side = case.input("image_u8").size()[3];
    // The official images have the input size of the model, so this view does not change them.
    let view = ImageView::Test(TestView::plain(side as u32, Filter::Bilinear));
    let options = LoaderOptions { workers: 2, prefetch: 2 };
    let initialisation = initialisation_of(case).word;
    let images = if initialisation == "shots" { selected(case, &split) } else { split };
    // On one rank, and with the virtual shards of `any_world`.
    for tree in [None, Some(ShardTree::new(4, 1))] {
        let parts = if tree.is_some() { 4 } else { 1 };
        let plan = ListPlan { len: images.len() as u64, batch_size: BATCH, parts };
        let limit = BadImageLimit { most: 0, outcome: Outcome::Failed };
        let loader = LoaderPlan { view, options };
        let walk = DatasetPass { rank, plan, split: &images, images: ImageSet::Training, limit, loader };
        let (pass, bad_images) = (Pass::new(&model, None), &RefCell::new(BadImages::default()));
        let features = Features { walk, pass, classes: case.classes(), tree, bad_images };
        match initialisation {
            "linear_probe" => check_probe(case, &features, tolerance),
            _ => case.compare("head_weight", &class_means(&features).unwrap().unwrap(), tolerance),
        }
    }
}

/// The images that the official sampler has selected.
fn selected(case: &Case, split: &Arc<Split>) -> Arc<Split> {
    let indices = Vec::<i64>::try_from(case.input("selected")).unwrap();
    Arc::new(Split::some_of(Arc::clone(split), indices.into_iter().map(|index| index as usize).collect()))
}

/// Compares a linear probe with the official one, which stops early, and with the converged solution of the case.
fn check_probe(case: &Case, features: &Features<'_>, tolerance: &str) {
    let objective = ProbeObjective::new(features, collect(features).unwrap()).unwrap().unwrap();
    let probe = fit(&objective, |_, _, _| Ok(())).unwrap();
    let rows = unit_rows(&probe.weight);
    case.compare("head_weight", &rows, tolerance);
    let converged = case.output("converged_weight_unit_rows");
    let error = (rows - converged).abs().max().double_value(&[]);
    let minimum = case.manifest["facts"]["objective_converged"].as_f64().unwrap();
    eprintln!(
        "{} ({tolerance}): {} steps, objective {} ({minimum}), gradient {:.1e}, rows within {error:.1e}",
        case.name, probe.steps, probe.objective, probe.gradient
    );
    assert!(error < 1e-3, "{} ({tolerance}): rows differ from converged ones by {error:e}", case.name);
    let excess = (probe.objective - minimum) / minimum;
    assert!(excess.abs() < 1e-6, "{} ({tolerance}): objective {}", case.name, probe.objective);
}

/// The images and labels of the case as a training split.
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

/// Images in memory.
struct InMemory(Vec<RgbImage>);

impl ImageReader for InMemory {
    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }

    fn read(&self, index: usize) -> Result<RgbImage, DataError> {
        Ok(self.0[index].clone())
    }
}
