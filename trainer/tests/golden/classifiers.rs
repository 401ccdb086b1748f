//! Logits and gradients of the heads.

use crate::case::{Case, PRECISIONS, cases};
use tch::Device;
use trainer::model::heads::{Classes, HEAD_BIAS, HEAD_WEIGHT, HeadKind, Heads, cosine};
use trainer::model::trainables::Trainables;
use trainer::options::{Registry, Values};

/// The head of the official class in the case; LIFT's default if there is none. LIFT+ names two of them differently.
pub fn head_of(case: &Case) -> Box<dyn HeadKind> {
    let config = case.config();
    let official = match config["classifier"].as_str().unwrap_or("CosineClassifier") {
        "L2NormClassifier" => "L2NormedClassifier",
        "LayerNormClassifier" => "LayerNormedClassifier",
        name => name,
    };
    let entry = Heads::of_official(official).unwrap_or_else(|| panic!("{}: head {official}", case.name));
    let scale = config["scale"].as_f64().or(config["classifier_scale"].as_f64()).unwrap_or(25.0);
    let mut options = Values::default();
    options.put_all(&cosine::CosineOptions { scale });
    (entry.make)(&options, None).unwrap()
}

#[test]
pub fn golden_classifiers() {
    for case in cases("classifiers") {
        for (precision, tolerance) in PRECISIONS {
            let kind = precision.parameters;
            let features = case.input("features").to_kind(kind).set_requires_grad(true);
            let weight = case.input("weight");
            let (classes, width) = weight.size2().unwrap();
            let head = head_of(&case);
            let specs = head.parameters(&Classes::all(classes), width);
            let trainables = Trainables::new(specs, kind, Device::Cpu, 0);
            trainables.set(HEAD_WEIGHT, &weight).unwrap();
            if case.has_input("bias") {
                trainables.set(HEAD_BIAS, &case.input("bias")).unwrap();
            }
            let logits = head.build(&trainables).unwrap().forward(&features);
            case.compare("logits", &logits, tolerance);
            (logits * case.input("logit_weight").to_kind(kind)).sum(kind).backward();
            case.compare("grad.features", &features.grad(), tolerance);
            for (name, output) in [(HEAD_WEIGHT, "grad.weight"), (HEAD_BIAS, "grad.bias")] {
                if case.has_output(output) {
                    case.compare(output, &trainables.get(name).unwrap().grad(), tolerance);
                }
            }
        }
    }
}
