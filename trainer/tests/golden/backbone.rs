//! Features of the image and text towers.

use crate::case::{Case, PRECISIONS, cases};
use tch::{Device, Kind, Tensor};
use trainer::model::backbone_config::BackboneConfig;
use trainer::model::heads::zero_shot::ZeroShotKind;
use trainer::model::heads::{Head, TextClasses};
use trainer::model::loading::{Backbone, LoadOptions, block_names, load, tower_shape};
use trainer::model::precision::Precision;
use trainer::model::text::unit_rows;
use trainer::model::tuners::{TunerContext, TunerSet};
use trainer::model::vision::PixelNorm;
use trainer::weights::{NamedTensors, TensorLayout, normalise};

const CLIP_PIXELS: ([f64; 3], [f64; 3]) =
    ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_58, 0.275_777_11]);
const VIT_PIXELS: ([f64; 3], [f64; 3]) = ([0.5; 3], [0.5; 3]);

/// Pixel mean and standard deviation for the backbone of the case.
pub fn pixel_constants(case: &Case) -> ([f64; 3], [f64; 3]) {
    if case.is_clip() { CLIP_PIXELS } else { VIT_PIXELS }
}

/// The weights of a case, their layout and configuration, and the context for tuners.
pub struct Weights {
    tensors: NamedTensors,
    layout: TensorLayout,
    config: BackboneConfig,
    pub site: TunerContext,
}

impl Weights {
    pub fn of(case: &Case) -> Self {
        let (tensors, layout) = normalise(case.weights()).unwrap();
        let expected = if case.is_clip() { TensorLayout::OpenAiClip } else { TensorLayout::TimmVit };
        assert_eq!(layout, expected, "{}", case.name);
        let resolution = u32::try_from(resolution(case, &tensors)).unwrap();
        let config = BackboneConfig::of_layout(&tensors, layout, resolution).unwrap();
        let shape = tower_shape(&tensors, layout, resolution).unwrap();
        let names = block_names(layout);
        let classes = case.manifest["cls_num_list"].as_array().map_or(0, |counts| counts.len() as u64);
        let site = TunerContext { shape, names, classes, blocks: 0..shape.layers };
        Self { tensors, layout, config, site }
    }

    /// Loads the backbone for these tuners.
    pub fn load(&self, precision: Precision, tuners: &TunerSet) -> Backbone {
        let options = LoadOptions { precision, device: Device::Cpu, config: self.config.clone(), part: None };
        load(&self.tensors, self.layout, &options, tuners).unwrap()
    }
}

/// The backbone of the case, without tuners.
pub fn backbone(case: &Case, precision: Precision) -> Backbone {
    Weights::of(case).load(precision, &TunerSet::default())
}

/// Image size of the case; without images, the native resolution of its backbone.
fn resolution(case: &Case, tensors: &NamedTensors) -> i64 {
    if case.has_input("image_u8") {
        return case.input("image_u8").size()[3];
    }
    let size = |clip: &str, vit: &str| tensors.get(if case.is_clip() { clip } else { vit }).unwrap().size();
    let tokens: i64 = size("visual.positional_embedding", "pos_embed").iter().rev().skip(1).product();
    (tokens - 1).isqrt() * size("visual.conv1.weight", "patch_embed.proj.weight")[3]
}

#[test]
pub fn golden_backbone() {
    for case in cases("backbone") {
        for (precision, tolerance) in PRECISIONS {
            check(&case, precision, tolerance);
        }
    }
}

fn check(case: &Case, precision: Precision, tolerance: &str) {
    let backbone = backbone(case, precision);
    let (mean, std) = pixel_constants(case);
    let pixels = PixelNorm::new(mean, std, precision.parameters, Device::Cpu);
    let features = backbone.vision.features(&pixels.forward(&case.input("image_u8")));
    for name in ["image_features_pre_projection", "features"] {
        compare_if_recorded(case, name, &features, tolerance);
    }
    let Some(text) = backbone.text else {
        compare_if_recorded(case, "image_features", &features, tolerance);
        compare_if_recorded(case, "timm_class_token", &features, tolerance);
        return;
    };
    let image = backbone.vision.project(&features).unwrap();
    compare_if_recorded(case, "image_features", &image, tolerance);
    let tokens = tokens(case, text.context());
    let text_features = text.features(&tokens);
    let zero_shot = case.config()["zero_shot"] == true;
    let unit = unit_rows(&text_features);
    compare_if_recorded(case, "text_features", if zero_shot { &unit } else { &text_features }, tolerance);
    let head = ZeroShotKind(TextClasses {
        projection: backbone.vision.projection().unwrap().shallow_clone(),
        text: unit,
        scale: text.scale(),
    });
    let logits = head.forward(&features);
    for name in ["logits_per_image", "logits"] {
        if !case.name.contains("plus-") {
            compare_if_recorded(case, name, &logits, tolerance);
        }
    }
}

fn tokens(case: &Case, context: i64) -> Tensor {
    if case.has_input("tokens") {
        return case.input("tokens").to_kind(Kind::Int64);
    }
    crate::init::prompts(case, context)
}

fn compare_if_recorded(case: &Case, name: &str, found: &Tensor, tolerance: &str) {
    if case.has_output(name) {
        case.compare(name, found, tolerance);
    }
}
