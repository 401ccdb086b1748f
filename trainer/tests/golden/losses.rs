//! Loss values and their gradients.

use crate::case::{PRECISIONS, cases};
use tch::Kind;
use trainer::model::loss::Loss;

#[test]
fn golden_losses() {
    for case in cases("losses") {
        for (precision, tolerance) in PRECISIONS {
            let kind = precision.parameters;
            let logits = case.input("logits").to_kind(kind).set_requires_grad(true);
            let counts = Vec::<f64>::try_from(case.input("cls_num_list").to_kind(Kind::Double)).unwrap();
            let tau = case.config()["loss_options"]["tau"].as_f64().unwrap_or(1.0);
            let loss = match case.config()["loss_type"].as_str().unwrap() {
                "CE" => Loss::CrossEntropy,
                "LA" => Loss::logit_adjusted(&counts, tau, kind, tch::Device::Cpu),
                other => panic!("{}: loss {other}", case.name),
            };
            let result = loss.forward(&logits, &case.input("label"));
            let mean = result.sum / result.normaliser;
            case.compare("loss", &mean, tolerance);
            mean.backward();
            case.compare("grad.logits", &logits.grad(), tolerance);
        }
    }
}
