//! First values of the head: from text, from class means.

use crate::backbone::{backbone, pixel_constants};
use crate::case::{Case, PRECISIONS, cases};
use tch::{Device, Kind, Tensor};
use trainer::model::head::{rows_from_means, rows_from_text};
use trainer::model::tokenizer::{Tokenizer, prompt};
use trainer::model::vision::PixelNorm;

/// Token ids of the case's class names in CLIP's default prompt.
pub fn prompts(case: &Case) -> Tensor {
    let names = case.config()["classnames"].as_array().unwrap();
    let texts: Vec<String> = names.iter().map(|n| prompt("a photo of a {}.", n.as_str().unwrap())).collect();
    let ids = Tokenizer::clip().unwrap().tokenize(&texts, 77).unwrap();
    let ids = Tensor::from_slice(&ids).view([texts.len() as i64, 77]);
    if case.has_output("tokens") {
        assert_eq!(ids, case.output("tokens").to_kind(Kind::Int64), "{}: tokens", case.name);
    }
    ids
}

#[test]
fn golden_init_text() {
    for case in cases("init", |name| name == "lift-clip-vit-text-default") {
        for (precision, tolerance) in PRECISIONS {
            let backbone = backbone(&case, precision, 0..0);
            let features = backbone.text.as_ref().unwrap().features(&prompts(&case));
            let rows = rows_from_text(&features, backbone.vision.projection.as_ref().unwrap());
            case.compare("head_weight", &rows, tolerance);
        }
    }
}

#[test]
fn golden_init_class_mean() {
    let covered = |name: &str| name.ends_with("vit-class_mean");
    for case in cases("init", |name| covered(name)) {
        for (precision, tolerance) in PRECISIONS {
            let backbone = backbone(&case, precision, 0..0);
            let (mean, std) = pixel_constants(&case);
            let pixels = PixelNorm::new(mean, std, precision.parameters, Device::Cpu);
            let features = backbone.vision.features(&pixels.forward(&case.input("image_u8")), &[]);
            case.compare("features", &features, tolerance);
            let labels = case.input("label");
            let sums = Tensor::zeros([10, features.size()[1]], (features.kind(), Device::Cpu));
            let sums = sums.index_add(0, &labels, &features);
            let counts = labels.bincount(None::<Tensor>, 10).to_kind(features.kind());
            case.compare("head_weight", &rows_from_means(&sums, &counts), tolerance);
        }
    }
}
