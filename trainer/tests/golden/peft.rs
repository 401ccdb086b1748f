//! Features, logits, loss and gradients with tuners in the tower.

use crate::backbone::{Weights, pixel_constants};
use crate::case::{Case, PRECISIONS, cases, cases_that};
use crate::classifiers::head_of;
use crate::losses::loss;
use serde_json::Value;
use std::ops::Range;
use tch::{Device, Kind};
use trainer::model::heads::Classes;
use trainer::model::precision::Precision;
use trainer::model::tuners::{TunerContext, TunerSet, Tuners, adaptformer, bottleneck, masked, vpt};
use trainer::model::{Model, ModelSpec};
use trainer::options::{Registry, Several, Values};

const KINDS: [&str; 4] = ["peft/clip-vit", "peft/in21k-vit", "peft/plus-clip-vit", "peft/plus-in21k-vit"];

/// Converts a tensor name of LIFT+ to that of LIFT.
pub fn lift_name(name: &str) -> String {
    let name = name.replace("tuner.classifier.", "head.");
    let Some(rest) = name.strip_prefix("tuner.image_encoder.blocks.") else { return name };
    let (block, part) = rest.split_once('.').unwrap();
    let part = part.strip_prefix("adaptformer.").unwrap_or(part);
    let part = part.replace("norm.", "ln.").replace("down.", "down_proj.").replace("up.", "up_proj.");
    format!("tuner.adaptformer_list.{block}.{part}")
}

#[test]
pub fn golden_peft() {
    for kind in KINDS {
        for case in cases(kind) {
            for (precision, tolerance) in PRECISIONS {
                check(&case, precision, tolerance);
            }
        }
    }
}

/// Tuners for which the official code ignores `partial` and uses all blocks.
const WITHOUT_PARTIAL: [&str; 3] = ["bias_tuning", "ln_tuning", "vpt_shallow"];

/// The tuners of the case's options.
pub fn tuners_of(case: &Case, base: &TunerContext) -> TunerSet {
    if case.manifest["source"]["repo"] == "lift-plus" {
        return plus_tuners(case, base);
    }
    let config = case.config();
    let number = |key: &str| config[key].as_u64().unwrap_or(0);
    let mut options = Values::default();
    options.put_all(&bottleneck::BottleneckOptions { adapter_dim: number("adapter_dim") as u32 });
    options.put_all(&vpt::VptOptions { vpt_len: number("vpt_len") as u32 });
    let (mask_ratio, mask_seed) = (ratio(&config["mask_ratio"]), number("mask_seed"));
    options.put_all(&masked::MaskedOptions { mask_ratio, mask_seed });
    let mut tuners = TunerSet::default();
    for method in Tuners::METHODS {
        let Some(official) = method.official.iter().find(|key| config[**key] == true) else { continue };
        let depth = base.shape.layers;
        let blocks = if WITHOUT_PARTIAL.contains(official) { 0..depth } else { partial(case, depth) };
        let site = TunerContext { blocks: blocks.clone(), ..base.clone() };
        tuners.push((method.make)(&options, &site), blocks);
    }
    tuners
}

/// A number, or a fraction as text.
fn ratio(value: &Value) -> f64 {
    let fraction = || {
        let (part, whole) = value.as_str()?.split_once('/')?;
        Some(part.parse::<f64>().ok()? / whole.parse::<f64>().ok()?)
    };
    value.as_f64().or_else(fraction).unwrap_or(0.0)
}

fn partial(case: &Case, depth: usize) -> Range<usize> {
    match &case.config()["partial"] {
        Value::Null => 0..depth,
        Value::Number(last) => depth - last.as_u64().unwrap() as usize..depth,
        bounds => bounds[0].as_u64().unwrap() as usize..bounds[1].as_u64().unwrap() as usize,
    }
}

/// The tuners of a LIFT+ case, whose options differ: AdaptFormer is recognised by names and shapes of its tensors.
fn plus_tuners(case: &Case, base: &TunerContext) -> TunerSet {
    let trainable = case.manifest["trainable"].as_object().unwrap();
    let modules = trainable.iter().filter(|(name, _)| lift_name(name).ends_with(".down_proj.weight"));
    let modules: Vec<(usize, u64)> = modules
        .map(|(name, spec)| {
            let block = lift_name(name).split('.').nth(2).unwrap().parse().unwrap();
            (block, spec["shape"][0].as_u64().unwrap())
        })
        .collect();
    let Some(&(first, dim)) = modules.iter().min() else { return TunerSet::default() };
    let site = TunerContext { blocks: first..first + modules.len(), ..base.clone() };
    let mut options = Values::default();
    options.put_all(&bottleneck::BottleneckOptions { adapter_dim: dim as u32 });
    TunerSet::of(&Several::of(&adaptformer::METHOD), &options, &site).unwrap()
}

/// The model of the case, with its parameters.
/// The model of the case, with these tuners.
pub fn spec_of(case: &Case, tuners: TunerSet, precision: Precision) -> ModelSpec {
    ModelSpec {
        tuners,
        head: head_of(case),
        classes: Classes::all(case.classes()),
        seed: 0,
        pixels: pixel_constants(case),
        precision,
        device: Device::Cpu,
    }
}

pub fn model(case: &Case, precision: Precision) -> Model {
    let weights = Weights::of(case);
    let tuners = tuners_of(case, &weights.site);
    for (name, mask) in tuners.constants() {
        let expected = case.input(&name).to_kind(Kind::Int64);
        assert_eq!(mask, expected, "{}: {name}", case.name);
    }
    let backbone = weights.load(precision, &tuners);
    let spec = spec_of(case, tuners, precision);
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
    let loss = loss(case, &case.class_counts(), precision.parameters);
    let mean = loss.forward(&logits, &case.input("label")).mean();
    case.compare("loss", &mean, tolerance);
    mean.backward();
    for output in case.manifest["outputs"].as_object().unwrap().keys() {
        if let Some(name) = output.strip_prefix("grad.") {
            let tensor = model.trainables().get(&lift_name(name)).unwrap();
            let shape = case.shape(output);
            // An empty tensor has no gradient.
            let gradient = if tensor.numel() == 0 { tensor.zeros_like() } else { tensor.grad() };
            case.compare(output, &gradient.view(shape.as_slice()), tolerance);
        }
    }
}

#[test]
fn golden_peft_in_bf16_is_close_to_fp32() {
    for case in &cases_that("peft/clip-vit", |case| case.name == "peft/clip-vit/adaptformer") {
        let results = [Precision::FP32, Precision::BF16].map(|precision| {
            let model = model(case, precision);
            let loss = loss(case, &case.class_counts(), precision.parameters);
            let result = loss.forward(&model.logits(&case.input("image_u8")), &case.input("label"));
            result.sum.backward();
            (result.sum.double_value(&[]), model.trainables().gradient())
        });
        let [(single, gradient), (half, half_gradient)] = results;
        assert!((single - half).abs() < 0.03 * single.abs(), "{}: loss {half}, in fp32 {single}", case.name);
        assert_ne!(single, half, "bf16 is used");
        let cosine = gradient.dot(&half_gradient) / (gradient.norm() * half_gradient.norm());
        let cosine = cosine.double_value(&[]);
        assert!(cosine > 0.99, "{}: cosine of gradients {cosine}", case.name);
    }
}
