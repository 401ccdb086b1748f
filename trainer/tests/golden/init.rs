//! Head initialisation from text.

use crate::backbone::backbone;
use crate::case::{Case, PRECISIONS, cases_that};
use crate::classifiers::head_of;
use tch::{Device, Kind, Tensor};
use trainer::engine::setup::head_init::text::{ClassPrompts, TextChunk, rows_from_text};
use trainer::model::heads::{Classes, HEAD_BIAS};
use trainer::model::tokenizer::{Tokenizer, prompt};
use trainer::model::trainables::Trainables;

/// Token ids of the class names in CLIP's default prompt, for a text tower with this context length.
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

/// The prompts of the case's configuration.
fn prompts_of(case: &Case) -> ClassPrompts {
    match case.config()["prompt"].as_str().unwrap() {
        "default" => ClassPrompts::Templates(vec!["a photo of a {}.".to_owned()]),
        "classname" => ClassPrompts::Templates(vec!["{}".to_owned()]),
        "ensemble" => ClassPrompts::ensemble(),
        "descriptor" => {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("descriptors.json");
            std::fs::write(&path, case.manifest["descriptors"].to_string()).unwrap();
            ClassPrompts::read(&path).unwrap()
        }
        other => panic!("{}: prompt {other}", case.name),
    }
}

#[test]
pub fn golden_init_text() {
    let tokenizer = Tokenizer::clip().unwrap();
    for case in cases_that("init", |case| case.name.contains("-text-")) {
        let names = case.config()["classnames"].as_array().unwrap();
        let names: Vec<String> = names.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        let texts = prompts_of(&case).texts(&names).unwrap();
        for (precision, tolerance) in PRECISIONS {
            let backbone = backbone(&case, precision);
            let tower = backbone.text.as_ref().unwrap();
            let chunks = TextChunk::of_rank(&texts, (&tokenizer, tower.context()), (0, 1)).unwrap();
            let features: Vec<Tensor> = chunks.iter().map(|chunk| chunk.features(tower)).collect();
            let projection = backbone.vision.projection().unwrap();
            let rows = rows_from_text(&Tensor::cat(&features, 0), projection);
            case.compare("head_weight", &rows, tolerance);
            if case.has_output("head_bias") {
                let (classes, width) = rows.size2().unwrap();
                let specs = head_of(&case).parameters(&Classes::all(classes), width);
                let trainables = Trainables::new(specs, precision.parameters, Device::Cpu, 0);
                case.compare("head_bias", &trainables.get(HEAD_BIAS).unwrap(), tolerance);
            }
        }
    }
}
