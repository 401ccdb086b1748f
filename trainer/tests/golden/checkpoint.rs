//! Official checkpoints: loaded exactly, or refused by name.

use crate::case::{Case, PRECISIONS, cases};
use crate::peft::model;
use std::path::Path;
use tch::no_grad;
use trainer::weights::trained::TrainedFile;

#[test]
fn golden_checkpoint() {
    for case in cases("checkpoint") {
        for (precision, tolerance) in PRECISIONS {
            let model = model(&with_trainables(&case), precision);
            let file = TrainedFile::read(&case.folder().join("checkpoint.pth.tar")).unwrap();
            file.load_into(model.trainables(), None).unwrap();
            no_grad(|| case.compare("logits", &model.logits(&case.input("image_u8")), tolerance));
        }
    }
}

/// The case with its `contents` as the trainable tensors that other cases list.
fn with_trainables(case: &Case) -> Case {
    let mut manifest = case.manifest.clone();
    let mut trainable = serde_json::Map::new();
    for (table, contents) in manifest["contents"].as_object().unwrap() {
        for (name, spec) in contents.as_object().unwrap() {
            trainable.insert(format!("{table}.{name}"), spec.clone());
        }
    }
    manifest["trainable"] = trainable.into();
    case.with_manifest(manifest)
}

#[test]
fn golden_checkpoint_hostile() {
    let good = cases("checkpoint");
    for hostile in cases("checkpoint/hostile") {
        // A hostile file is a good one of its set, changed in one place.
        let good = good.iter().find(|good| good.root() == hostile.root()).unwrap();
        let model = model(&with_trainables(good), PRECISIONS[1].0);
        let before = model.trainables().flat().copy();
        let path = hostile.folder().join("checkpoint.pth.tar");
        let result = TrainedFile::read(&path).and_then(|file| file.load_into(model.trainables(), None));
        if hostile.manifest["expect"] == "load" {
            result.unwrap_or_else(|error| panic!("{}: {error}", hostile.name));
        } else {
            let error = result.expect_err(&hostile.name).to_string();
            eprintln!("{}: {}", hostile.name, error.lines().next().unwrap_or_default());
            assert!(error.contains("checkpoint.pth.tar"), "{}: the file is named: {error}", hostile.name);
            assert_eq!(before, model.trainables().flat(), "{}: nothing is loaded in part", hostile.name);
        }
        for folder in [Path::new("."), &hostile.folder()] {
            assert!(!folder.join("PWNED").exists(), "{} was run", hostile.name);
        }
    }
}
