//! Compares each stage of the official run on CIFAR-100-LT, from files to logits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor, no_grad};
use trainer::config::{Config, Selection};
use trainer::data::resize::Filter;
use trainer::data::source::{DataLayout, DataSet, DataSpec};
use trainer::data::transform::{ImageView, Scratch, TestView};
use trainer::engine::setup::head_init::text::rows_from_text;
use trainer::model::backbone_config::BackboneConfig;
use trainer::model::heads::Classes;
use trainer::model::loading::Backbone;
use trainer::model::loading::{LoadOptions, block_names, load, tower_shape};
use trainer::model::precision::Precision;
use trainer::model::text::unit_rows;
use trainer::model::tokenizer::{Tokenizer, prompt};
use trainer::model::tuners::{TunerContext, TunerSet};
use trainer::model::{Model, ModelSpec};
use trainer::weights::trained::TrainedFile;
use trainer::weights::{NamedTensors, normalise};

const PIXELS: ([f64; 3], [f64; 3]) =
    ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_58, 0.275_777_11]);

fn shared(variable: &str, folder: &str) -> Option<PathBuf> {
    let default = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")).join(folder);
    let path = std::env::var_os(variable).map_or(default, PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: golden_reference ({variable} not found at {})", path.display());
    None
}

/// Asserts that the maximum difference is at most `limit`.
fn assert_close(what: &str, found: &Tensor, expected: &Tensor, limit: f64) {
    assert_eq!(found.size(), expected.size(), "{what}: shape");
    let error = (found.to_kind(Kind::Double) - expected.to_kind(Kind::Double)).abs().max().double_value(&[]);
    eprintln!("{what}: maximum difference {error:.1e}, allowed {limit:.0e}");
    assert!(error <= limit, "{what}: differs by {error:e}");
}

/// Class names, and the first `count` test images in the view of `side` pixels.
fn classes_and_images(root: PathBuf, count: i64, side: i64) -> (Vec<String>, Tensor) {
    let spec = DataSpec { root, layout: DataLayout::Auto, imbalance: Some(100.0), ..DataSpec::default() };
    let data = DataSet::open(&spec).unwrap();
    let view = ImageView::Test(TestView::lift(side as u32, Filter::Bilinear));
    let mut bytes = vec![0u8; count as usize * view.bytes()];
    let mut scratch = Scratch::default();
    for (i, out) in bytes.chunks_exact_mut(view.bytes()).enumerate() {
        view.write((&data.test.read(i).unwrap()).into(), (0, 0), &mut scratch, out).unwrap();
    }
    (data.class_names, Tensor::from_slice(&bytes).view([count, 3, side, side]))
}

/// The results of the official code for its first test images.
struct Reference {
    folder: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

impl Reference {
    fn open(folder: PathBuf) -> Self {
        let tensors = Tensor::read_safetensors(folder.join("reference_tensors.safetensors")).unwrap();
        Self { folder, tensors: tensors.into_iter().collect() }
    }

    fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.folder.display()))
    }

    /// Number of images, and their size in pixels.
    fn images(&self) -> (i64, i64) {
        let [count, _, _, side] = self.get("test_inputs").size()[..] else {
            panic!("test_inputs are images")
        };
        (count, side)
    }

    /// The model with the official checkpoint.
    fn model(&self, config: &Config, (backbone, tuners): (Backbone, TunerSet), classes: i64) -> Model {
        let spec = ModelSpec {
            tuners,
            head: (config.head.kind.method().make)(&config.methods, None).unwrap(),
            classes: Classes::all(classes),
            seed: 0,
            pixels: PIXELS,
            precision: Precision::FP32,
            device: Device::Cpu,
        };
        let model = Model::build(backbone, spec).unwrap();
        let checkpoint = TrainedFile::read(&self.folder.join("checkpoint.pth.tar")).unwrap();
        model.trainables().load(&checkpoint, &model.tuners().constants(), None).unwrap();
        model
    }

    fn compare(&self, model: &Model, bytes: &Tensor) {
        no_grad(|| {
            let without = self.get("features_without_tuner");
            assert_close("features without tuner", &model.frozen_features(bytes), without, 1e-5);
            assert_close("features", &model.features(bytes), self.get("features"), 1e-5);
            assert_close("logits", &model.logits(bytes), self.get("logits"), 1e-5);
        });
    }
}

/// The configuration of LIFT with these options.
fn lift(set: Vec<String>) -> Config {
    let [data, model] = ["demo", "demo"].map(str::to_owned);
    let selection = Selection { data, model, method: "lift".to_owned(), set };
    Config::resolve(&selection).unwrap().config
}

/// The backbone and the tuners.
fn load_backbone(backbones: &Path, config: &Config, side: i64, classes: i64) -> (Backbone, TunerSet) {
    let file = NamedTensors::open(&backbones.join("tiny-clip/model.safetensors")).unwrap();
    let (tensors, layout) = normalise(file).unwrap();
    let side = u32::try_from(side).unwrap();
    let options = LoadOptions {
        precision: Precision::FP32,
        device: Device::Cpu,
        config: BackboneConfig::of_layout(&tensors, layout, side).unwrap(),
        part: None,
    };
    let shape = tower_shape(&tensors, layout, side).unwrap();
    let blocks = config.tuner.partial.blocks(shape.layers).unwrap();
    let site = TunerContext { shape, names: block_names(layout), classes: classes as u64, blocks };
    let tuners = TunerSet::of(&config.tuner.kinds, &config.methods, &site).unwrap();
    (load(&tensors, layout, &options, &tuners).unwrap(), tuners)
}

#[test]
fn golden_reference_stage_by_stage() {
    let (Some(data), Some(backbones)) = (shared("LIFT_DATA", "data"), shared("LIFT_BACKBONES", "backbones"))
    else {
        return;
    };
    tch::set_num_threads(1);
    let reference = Reference::open(backbones.join("official_lift_seed0"));
    let (count, side) = reference.images();
    let (names, bytes) = classes_and_images(data.join("cifar100"), count, side);
    let classes = names.len() as i64;
    let config = lift(Vec::new());
    let (backbone, tuners) = load_backbone(&backbones, &config, side, classes);

    let texts: Vec<String> = names.iter().map(|name| prompt("a photo of a {}.", name)).collect();
    let tower = backbone.text.as_ref().unwrap();
    let ids = Tokenizer::clip().unwrap().tokenize(&texts, tower.context() as usize).unwrap();
    let ids = Tensor::from_slice(&ids).view([classes, tower.context()]);
    assert_eq!(ids, *reference.get("prompt_tokens"), "prompt tokens");
    let text = no_grad(|| unit_rows(&tower.features(&ids)));
    assert_close("text features", &text, reference.get("text_features"), 1e-5);
    let head = rows_from_text(&text, backbone.vision.projection().unwrap());
    assert_close("initial head", &head, reference.get("initial_head"), 1e-5);

    let model = reference.model(&config, (backbone, tuners), classes);
    let inputs = model.pixels().forward(&bytes);
    assert_close("normalised test inputs", &inputs, reference.get("test_inputs"), 1e-6);
    assert_same_pixels(&bytes, reference.get("test_inputs"));
    reference.compare(&model, &bytes);
}

/// Compares checkpoints of other tuners, heads, losses and initialisations, each with the options in its folder.
#[test]
fn golden_reference_of_other_options() {
    let (Some(data), Some(backbones)) = (shared("LIFT_DATA", "data"), shared("LIFT_BACKBONES", "backbones"))
    else {
        return;
    };
    tch::set_num_threads(1);
    let folders = std::fs::read_dir(backbones.join("official")).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<PathBuf> = folders.filter(|folder| folder.join("expected.json").exists()).collect();
    assert!(!folders.is_empty(), "{}: no official run", backbones.display());
    for folder in folders {
        let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        let options = serde_json::from_value(expected["lift_rs_options"].clone()).unwrap();
        eprintln!("{}: {options:?}", folder.display());
        let (reference, config) = (Reference::open(folder), lift(options));
        let (count, side) = reference.images();
        let (names, bytes) = classes_and_images(data.join("cifar100"), count, side);
        let classes = names.len() as i64;
        let loaded = load_backbone(&backbones, &config, side, classes);
        reference.compare(&reference.model(&config, loaded, classes), &bytes);
    }
}

/// Recovers the pixels of the reference from its normalised inputs, and asserts that they equal ours exactly.
fn assert_same_pixels(bytes: &Tensor, inputs: &Tensor) {
    let (mean, std) = PIXELS;
    let tensor = |values: [f64; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]);
    let recovered = ((inputs.to_kind(Kind::Double) * tensor(std) + tensor(mean)) * 255.0).round();
    assert_eq!(recovered.to_kind(Kind::Uint8), *bytes, "test pixels");
}
