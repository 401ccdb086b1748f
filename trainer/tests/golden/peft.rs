//! AdaptFormer in the tower: features, logits, loss, gradients.

use crate::backbone::{backbone, pixel_constants};
use crate::case::{Case, PRECISIONS, cases};
use crate::classifiers::head_of;
use std::ops::Range;
use tch::Device;
use trainer::model::heads::Classes;
use trainer::model::loss::Loss;
use trainer::model::precision::Precision;
use trainer::model::tuner::TunerKind;
use trainer::model::{Model, ModelSpec};

const KINDS: [&str; 4] = ["peft/clip-vit", "peft/in21k-vit", "peft/plus-clip-vit", "peft/plus-in21k-vit"];

/// LIFT+ names of the tensors, and LIFT's.
pub fn lift_name(name: &str) -> String {
    let name = name.replace("tuner.classifier.", "head.");
    let Some(rest) = name.strip_prefix("tuner.image_encoder.blocks.") else { return name };
    let (block, part) = rest.split_once('.').unwrap();
    let part = part.strip_prefix("adaptformer.").unwrap_or(part);
    let part = part.replace("norm.", "ln.").replace("down.", "down_proj.").replace("up.", "up_proj.");
    format!("tuner.adaptformer_list.{block}.{part}")
}

#[test]
fn golden_peft_adaptformer() {
    for kind in KINDS {
        for case in cases(kind) {
            for (precision, tolerance) in PRECISIONS {
                check(&case, precision, tolerance);
            }
        }
    }
}

/// The tuner that the names and shapes of the case's parameters describe.
pub fn tuner_of(case: &Case) -> TunerKind {
    let names: Vec<String> =
        case.manifest["trainable"].as_object().unwrap().keys().map(|n| lift_name(n)).collect();
    let layers = |prefix: &str| -> Option<Range<usize>> {
        let numbers: Vec<usize> =
            names.iter().filter_map(|n| n.strip_prefix(prefix)?.split('.').next()?.parse().ok()).collect();
        Some(*numbers.iter().min()?..*numbers.iter().max()? + 1)
    };
    if let Some(layers) = layers("tuner.adaptformer_list.") {
        let down = case.manifest["trainable"].as_object().unwrap();
        let down = down.iter().find(|(name, _)| lift_name(name).ends_with("down_proj.weight")).unwrap().1;
        return TunerKind::AdaptFormer { dim: down["shape"][0].as_i64().unwrap(), layers };
    }
    layers("tuner.block_tuned.").map_or(TunerKind::None, |layers| TunerKind::Full { layers })
}

/// The case's model, with the case's parameters.
pub fn model(case: &Case, precision: Precision) -> Model {
    let tuner = tuner_of(case);
    let backbone = backbone(case, precision, tuner.trained_blocks());
    let spec = ModelSpec {
        tuner,
        head: head_of(case),
        classes: Classes::all(case.classes()),
        seed: 0,
        pixels: pixel_constants(case),
        precision,
        device: Device::Cpu,
    };
    let model = Model::build(backbone, spec).unwrap();
    for (name, value) in case.parameters() {
        model.trainables().set(&lift_name(&name), &value).unwrap();
    }
    model
}

fn check(case: &Case, precision: Precision, tolerance: &str) {
    let model = model(case, precision);
    if let Some(count) = case.manifest["trainable_count"].as_i64() {
        assert_eq!(model.trainables().count(), count, "{}: trainable scalars", case.name);
    }
    let features = model.features(&case.input("image_u8"));
    case.compare("features", &features, tolerance);
    let logits = model.classify(&features);
    case.compare("logits", &logits, tolerance);
    let loss = Loss::logit_adjusted(&case.class_counts(), 1.0, precision.parameters, Device::Cpu);
    let result = loss.forward(&logits, &case.input("label"));
    let mean = result.sum / result.normaliser;
    case.compare("loss", &mean, tolerance);
    mean.backward();
    for output in case.manifest["outputs"].as_object().unwrap().keys() {
        if let Some(name) = output.strip_prefix("grad.") {
            let tensor = model.trainables().get(&lift_name(name)).unwrap();
            let shape = case.shape(output);
            case.compare(output, &tensor.grad().view(shape.as_slice()), tolerance);
        }
    }
}

#[test]
fn golden_peft_in_bf16_is_near_fp32() {
    for case in cases("peft/clip-vit").iter().filter(|case| case.name == "peft/clip-vit/adaptformer") {
        let results = [Precision::FP32, Precision::BF16].map(|precision| {
            let model = model(case, precision);
            let loss = Loss::logit_adjusted(&case.class_counts(), 1.0, precision.parameters, Device::Cpu);
            let result = loss.forward(&model.logits(&case.input("image_u8")), &case.input("label"));
            result.sum.backward();
            (result.sum.double_value(&[]), model.trainables().gradient())
        });
        let [(single, gradient), (half, half_gradient)] = results;
        assert!((single - half).abs() < 0.03 * single.abs(), "{}: loss {half}, in fp32 {single}", case.name);
        assert_ne!(single, half, "bf16 was really used");
        let cosine = gradient.dot(&half_gradient) / (gradient.norm() * half_gradient.norm());
        let cosine = cosine.double_value(&[]);
        assert!(cosine > 0.99, "{}: cosine of gradients {cosine}", case.name);
    }
}
