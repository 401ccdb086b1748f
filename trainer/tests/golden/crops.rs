//! Test-time crops: pixels, logits, and the mean of the logits that gives the predictions.

use crate::case::{Case, PRECISIONS, cases_that, roots};
use crate::peft::model;
use tch::{Kind, Tensor, no_grad};
use trainer::data::RgbImage;
use trainer::data::resize::Filter;
use trainer::data::transform::{CornerCrops, ImageView, Scratch, TestView};
use trainer::engine::step::classifier::{Classifier, mean_over_crops};

#[test]
pub fn golden_eval_crops() {
    let cases = cases_that("eval", |case| case.has_output("crops_u8"));
    // The repository contains two cases, the complete set seven more.
    let expected = if roots().len() > 2 { 9 } else { 2 };
    assert_eq!(cases.len(), expected);
    for case in &cases {
        check(case);
    }
}

fn check(case: &Case) {
    let view = view(case);
    let (bytes, crops) = (crops(case, view), view.crops() as i64);
    let shape = case.shape("crops_u8");
    assert_eq!(bytes.view(shape.as_slice()), case.output("crops_u8"), "{}: pixels", case.name);
    let case = case.with_manifest(with_trainables(case));
    for (precision, tolerance) in PRECISIONS {
        let model = model(&case, precision);
        no_grad(|| {
            let features = model.features(&bytes);
            let logits = model.classify(&features);
            if case.has_output("crop_logits") {
                case.compare("crop_logits", &logits.view([shape[0], crops, -1]), tolerance);
            }
            let merged = mean_over_crops(logits.shallow_clone(), crops);
            assert_eq!(merged.kind(), logits.kind());
            case.compare("merged_logits", &merged, tolerance);
            let predictions =
                Classifier::Replicated.predict(&model, Some(&features), crops).unwrap().unwrap();
            assert_eq!(
                predictions.classes,
                case.output("merged_logits").argmax(1, false),
                "{}: classes",
                case.name
            );
        });
    }
}

/// The view of the case's configuration. LIFT+ resizes with another filter and has only five crops.
fn view(case: &Case) -> ImageView {
    let config = case.config();
    let plus = case.manifest["source"]["repo"] == "lift-plus";
    let filter = if plus { Filter::Bicubic } else { Filter::Bilinear };
    let size = config["resolution"].as_u64().unwrap() as u32;
    let expand = config["expand"].as_u64().map_or(24, |expand| expand as u32);
    let corners = |mirrored| ImageView::Corners(CornerCrops::lift(size, expand, filter, mirrored));
    match config["tte_mode"].as_str() {
        _ if config["tte"] == false => ImageView::Test(TestView::lift(size, filter)),
        None if plus => corners(false),
        Some("fivecrop") => corners(false),
        Some("tencrop") => corners(true),
        other => panic!("{}: unknown crops {other:?}", case.name),
    }
}

/// Crops of all images, `[images * crops, 3, side, side]`.
fn crops(case: &Case, view: ImageView) -> Tensor {
    let side = i64::from(view.size());
    let mut scratch = Scratch::default();
    let of_image = |number: i64| {
        let image = case.input(&format!("image_{number}"));
        let (height, width) = (image.size()[0] as u32, image.size()[1] as u32);
        let pixels = Vec::<u8>::try_from(image.contiguous().flatten(0, -1)).unwrap();
        let mut out = vec![0; view.bytes()];
        let image = RgbImage { width, height, pixels };
        view.write((&image).into(), (0, number as u64), &mut scratch, &mut out).unwrap();
        Tensor::from_slice(&out).view([view.crops() as i64, 3, side, side])
    };
    let count = case.manifest["image_count"].as_i64().unwrap();
    let all: Vec<Tensor> = (0..count).map(of_image).collect();
    Tensor::cat(&all, 0).to_kind(Kind::Uint8)
}

/// The manifest of the case, with its parameters as the list of trainable tensors that other cases have.
fn with_trainables(case: &Case) -> serde_json::Value {
    let mut manifest = case.manifest.clone();
    let inputs = case.manifest["inputs"].as_object().unwrap();
    let trainable: serde_json::Map<_, _> = inputs
        .iter()
        .filter_map(|(name, spec)| Some((name.strip_prefix("param.")?.to_owned(), spec.clone())))
        .collect();
    manifest["trainable"] = trainable.into();
    manifest
}
