//! First values of the head from text.

use crate::backbone::backbone;
use crate::case::{Case, PRECISIONS, cases};
use tch::{Kind, Tensor};
use trainer::model::head::rows_from_text;
use trainer::model::tokenizer::{Tokenizer, prompt};

/// Token ids of the case's class names in CLIP's default prompt, for a text tower of that context.
pub fn prompts(case: &Case, context: i64) -> Tensor {
    let names = case.config()["classnames"].as_array().unwrap();
    let texts: Vec<String> = names.iter().map(|n| prompt("a photo of a {}.", n.as_str().unwrap())).collect();
    let ids = Tokenizer::clip().unwrap().tokenize(&texts, context as usize).unwrap();
    let ids = Tensor::from_slice(&ids).view([texts.len() as i64, context]);
    if case.has_output("tokens") {
        assert_eq!(ids, case.output("tokens").to_kind(Kind::Int64), "{}: tokens", case.name);
    }
    ids
}

/// The cases of the group whose head starts from `init`, as the official configuration calls it.
pub fn starts_from(init: &'static str) -> impl Iterator<Item = Case> {
    cases("init").into_iter().filter(move |case| case.name.ends_with(init))
}

#[test]
fn golden_init_text() {
    for case in starts_from("-text-default") {
        for (precision, tolerance) in PRECISIONS {
            let backbone = backbone(&case, precision);
            let tower = backbone.text.as_ref().unwrap();
            let features = tower.features(&prompts(&case, tower.context()));
            let rows = rows_from_text(&features, backbone.vision.projection().unwrap());
            case.compare("head_weight", &rows, tolerance);
        }
    }
}
