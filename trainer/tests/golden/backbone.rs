//! Images and tokens to features.

use crate::case::{Case, PRECISIONS, cases};
use tch::{Device, Kind, Tensor};
use trainer::model::backbone_config::BackboneConfig;
use trainer::model::heads::zero_shot::ZeroShot;
use trainer::model::heads::{Head, TextClasses};
use trainer::model::loading::{Backbone, LoadOptions, load};
use trainer::model::precision::Precision;
use trainer::model::text::unit_rows;
use trainer::model::vision::PixelNorm;
use trainer::weights::{Layout, NamedTensors, normalise};

const CLIP_PIXELS: ([f64; 3], [f64; 3]) =
    ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_58, 0.275_777_11]);
const VIT_PIXELS: ([f64; 3], [f64; 3]) = ([0.5; 3], [0.5; 3]);

/// Mean and standard deviation that go with the case's backbone.
pub fn pixel_constants(case: &Case) -> ([f64; 3], [f64; 3]) {
    if case.is_clip() { CLIP_PIXELS } else { VIT_PIXELS }
}

/// The case's backbone, with blocks `trained` kept ready for training.
pub fn backbone(case: &Case, precision: Precision, trained: std::ops::Range<usize>) -> Backbone {
    let (tensors, layout) = normalise(case.weights()).unwrap();
    let expected = if case.is_clip() { Layout::OpenAiClip } else { Layout::TimmVit };
    assert_eq!(layout, expected, "{}", case.name);
    let resolution = u32::try_from(resolution(case, &tensors)).unwrap();
    let config = BackboneConfig::of_layout(&tensors, layout, resolution).unwrap();
    let options = LoadOptions { precision, device: Device::Cpu, trained, config, part: None };
    load(&tensors, layout, &options).unwrap()
}

/// Side of the case's images; a case without images takes the one that its backbone was made for.
fn resolution(case: &Case, tensors: &NamedTensors) -> i64 {
    if case.has_input("image_u8") {
        return case.input("image_u8").size()[3];
    }
    let size = |clip: &str, vit: &str| tensors.get(if case.is_clip() { clip } else { vit }).unwrap().size();
    let tokens: i64 = size("visual.positional_embedding", "pos_embed").iter().rev().skip(1).product();
    (tokens - 1).isqrt() * size("visual.conv1.weight", "patch_embed.proj.weight")[3]
}

#[test]
fn golden_backbone() {
    for case in cases("backbone") {
        for (precision, tolerance) in PRECISIONS {
            check(&case, precision, tolerance);
        }
    }
}

fn check(case: &Case, precision: Precision, tolerance: &str) {
    let backbone = backbone(case, precision, 0..0);
    let (mean, std) = pixel_constants(case);
    let pixels = PixelNorm::new(mean, std, precision.parameters, Device::Cpu);
    let features = backbone.vision.features(&pixels.forward(&case.input("image_u8")), &[]);
    for name in ["image_features_pre_projection", "features"] {
        compare_if_there(case, name, &features, tolerance);
    }
    let Some(text) = backbone.text else {
        compare_if_there(case, "image_features", &features, tolerance);
        compare_if_there(case, "timm_class_token", &features, tolerance);
        return;
    };
    let image = backbone.vision.project(&features).unwrap();
    compare_if_there(case, "image_features", &image, tolerance);
    let tokens = tokens(case, text.context());
    let text_features = text.features(&tokens);
    let zero_shot = case.config()["zero_shot"] == true;
    let unit = unit_rows(&text_features);
    compare_if_there(case, "text_features", if zero_shot { &unit } else { &text_features }, tolerance);
    let head = ZeroShot(TextClasses {
        projection: backbone.vision.projection.as_ref().unwrap().shallow_clone(),
        text: unit,
        scale: text.scale(),
    });
    let logits = head.forward(&features);
    for name in ["logits_per_image", "logits"] {
        if !case.name.contains("plus-") {
            compare_if_there(case, name, &logits, tolerance);
        }
    }
}

fn tokens(case: &Case, context: i64) -> Tensor {
    if case.has_input("tokens") {
        return case.input("tokens").to_kind(Kind::Int64);
    }
    crate::init::prompts(case, context)
}

fn compare_if_there(case: &Case, name: &str, found: &Tensor, tolerance: &str) {
    if case.has_output(name) {
        case.compare(name, found, tolerance);
    }
}
