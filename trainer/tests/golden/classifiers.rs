//! Heads: logits and the gradients that pass through them.

use crate::case::{PRECISIONS, cases};
use trainer::model::head::Head;

#[test]
fn golden_classifiers() {
    for case in cases("classifiers") {
        for (precision, tolerance) in PRECISIONS {
            let kind = precision.parameters;
            let features = case.input("features").to_kind(kind).set_requires_grad(true);
            let weight = case.input("weight").to_kind(kind).set_requires_grad(true);
            let config = case.config();
            let scale = config["scale"].as_f64().or(config["classifier_scale"].as_f64()).unwrap_or(25.0);
            let head = Head::Cosine { weight: weight.shallow_clone(), scale };
            let logits = head.forward(&features);
            case.compare("logits", &logits, tolerance);
            (logits * case.input("logit_weight").to_kind(kind)).sum(kind).backward();
            case.compare("grad.features", &features.grad(), tolerance);
            case.compare("grad.weight", &weight.grad(), tolerance);
        }
    }
}
