//! Loss values and their gradients: every loss of the list, by its official name.

use crate::case::{Case, PRECISIONS, cases};
use serde_json::Value;
use tch::{Device, Kind};
use trainer::model::losses::{Build, Entry, Frequencies, LOSSES, Loss, Options};

/// The loss of this official name.
pub fn entry(official: &str) -> Option<&'static Entry> {
    LOSSES.iter().find(|entry| entry.official == official)
}

/// The loss that a case's configuration names, for these counts of training images.
pub fn loss(case: &Case, counts: &[f64], kind: Kind) -> Box<dyn Loss> {
    let config = case.config();
    let official = config["loss_type"].as_str().unwrap();
    let entry = entry(official).unwrap_or_else(|| panic!("{}: loss {official}", case.name));
    let frequencies = &Frequencies::new(counts);
    (entry.build)(&Build { frequencies, options: &options(config), kind, device: Device::Cpu })
}

/// Options by the names of the official code, which gives LDAM the scale of the head.
fn options(config: &Value) -> Options {
    let mut options = Options::default();
    if let Some(scale) = config["scale"].as_f64().or(config["classifier_scale"].as_f64()) {
        options.ldam.scale = scale;
    }
    for (name, value) in config["loss_options"].as_object().into_iter().flatten() {
        let place = match name.as_str() {
            "gamma" => &mut options.focal.gamma,
            "max_m" => &mut options.ldam.max_margin,
            "s" => &mut options.ldam.scale,
            "beta" => &mut options.class_balanced.beta,
            "exp_scale" => &mut options.reweighted.exponent,
            "tau" => &mut options.logit_adjusted.tau,
            "remine_lambda" => &mut options.lade.remine_lambda,
            "estim_loss_weight" => &mut options.lade.estimation_weight,
            other => panic!("loss option {other}"),
        };
        *place = value.as_f64().unwrap();
    }
    options
}

#[test]
fn golden_losses() {
    for case in cases("losses") {
        for (precision, tolerance) in PRECISIONS {
            let kind = precision.parameters;
            let logits = case.input("logits").to_kind(kind).set_requires_grad(true);
            let counts = Vec::<f64>::try_from(case.input("cls_num_list").to_kind(Kind::Double)).unwrap();
            let mean = loss(&case, &counts, kind).forward(&logits, &case.input("label")).mean();
            case.compare("loss", &mean, tolerance);
            mean.backward();
            case.compare("grad.logits", &logits.grad(), tolerance);
        }
    }
}
