//! Values and gradients of every loss, selected by its official name.

use crate::case::{Case, PRECISIONS, cases};
use serde_json::Value;
use tch::{Device, Kind};
use trainer::model::losses::{
    Frequencies, Loss, LossContext, Losses, class_balanced, focal, lade, ldam, logit_adjusted, reweighted,
};
use trainer::options::{Registry, Values};

/// The loss of the case's configuration, for these numbers of training images per class.
pub fn loss(case: &Case, counts: &[f64], kind: Kind) -> Box<dyn Loss> {
    let config = case.config();
    let official = config["loss_type"].as_str().unwrap();
    let method = Losses::of_official(official).unwrap_or_else(|| panic!("{}: loss {official}", case.name));
    let frequencies = &|_| Frequencies::new(counts);
    (method.make)(&options(config), &LossContext { frequencies, kind, device: Device::Cpu })
}

/// Maps the official option names to ours. The official code passes the scale of the head to LDAM.
fn options(config: &Value) -> Values {
    let named = &config["loss_options"];
    let option = |name: &str, default: f64| named[name].as_f64().unwrap_or(default);
    let scale = config["scale"].as_f64().or(config["classifier_scale"].as_f64()).unwrap_or(30.0);
    let known = ["gamma", "max_m", "s", "beta", "exp_scale", "tau", "remine_lambda", "estim_loss_weight"];
    for name in named.as_object().into_iter().flatten().map(|(name, _)| name) {
        assert!(known.contains(&name.as_str()), "loss option {name}");
    }
    let mut values = Values::default();
    values.put_all(&focal::FocalOptions { gamma: option("gamma", 2.0) });
    values.put_all(&ldam::LdamOptions { max_margin: option("max_m", 0.5), scale: option("s", scale) });
    values.put_all(&class_balanced::ClassBalancedOptions { beta: option("beta", 0.9999) });
    values.put_all(&reweighted::ReweightedOptions { exponent: option("exp_scale", 1.0) });
    values.put_all(&logit_adjusted::LogitAdjustedOptions { tau: option("tau", 1.0) });
    let (remine_lambda, estimation_weight) = (option("remine_lambda", 0.1), option("estim_loss_weight", 0.1));
    values.put_all(&lade::LadeOptions { remine_lambda, estimation_weight });
    values
}

#[test]
pub fn golden_losses() {
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
