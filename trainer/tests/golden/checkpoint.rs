//! Official checkpoints: loaded exactly, or rejected with the name of the file.

use crate::case::{PRECISIONS, cases, roots};
use crate::peft::model;
use serde_json::Value;
use std::path::Path;
use tch::no_grad;
use trainer::model::tuners::{MakeTuner, Tuners};
use trainer::options::{Method, Registry};
use trainer::weights::official::{HeadTensors, OfficialOptions, aliases, write_checkpoint};
use trainer::weights::torch_archive::read_archive;
use trainer::weights::trained::TrainedFile;

#[test]
pub fn golden_checkpoint() {
    for case in cases("checkpoint") {
        let file = TrainedFile::read(&case.folder().join("checkpoint.pth.tar")).unwrap();
        for (precision, tolerance) in PRECISIONS {
            let model = model(&case, precision);
            model.trainables().load(&file, &model.tuners().constants(), None).unwrap();
            no_grad(|| case.compare("logits", &model.logits(&case.input("image_u8")), tolerance));
        }
    }
}

/// The trainer's options for the official options of a case.
fn options(config: &Value) -> OfficialOptions {
    let is_on = |method: &&&Method<MakeTuner>| method.official.iter().any(|switch| config[*switch] == true);
    let kinds = Tuners::METHODS.iter().filter(is_on).map(|method| method.word.to_owned());
    let (head_kind, head) = match config["classifier"].as_str() {
        Some("LinearClassifier") => ("linear", HeadTensors::WeightAndBias),
        _ => ("cosine", HeadTensors::Weight),
    };
    let widths = [("tuner.adapter_dim", "adapter_dim"), ("tuner.vpt_len", "vpt_len")];
    let widths =
        widths.into_iter().filter_map(|(ours, official)| Some((ours, config[official].as_u64()? as usize)));
    OfficialOptions {
        kinds: kinds.collect(),
        head_kind: head_kind.to_owned(),
        head,
        widths: widths.collect(),
    }
}

/// Reads every checkpoint of LIFT on a ViT, recognises its options, and writes it again, also for unsupported tuners.
#[test]
fn golden_checkpoint_options_are_recognised_and_the_file_is_rewritten() {
    for folder in roots().iter().map(|root| root.join("checkpoint")).filter(|folder| folder.is_dir()) {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !name.starts_with("lift-") || name.contains("-rn-") {
                continue;
            }
            let manifest = std::fs::read_to_string(path.join("manifest.json")).unwrap();
            let manifest: Value = serde_json::from_str(&manifest).unwrap();
            let (config, file) = (&manifest["config"], path.join("checkpoint.pth.tar"));
            let file = TrainedFile::read(&file).unwrap();
            let (contents, options) = (file.contents(), options(config));
            assert_eq!(contents.kinds, options.kinds, "{name}");
            assert_eq!(contents.head, options.head, "{name}");
            for (option, width) in &options.widths {
                assert!(contents.options().contains(&format!("{option}={width}")), "{name}: {contents}");
            }
            check_rewritten(&name, &file, &manifest);
            file.check_options(options).unwrap();
        }
    }
}

/// Checks that the rewritten file has all names of the official one, with the same values.
fn check_rewritten(name: &str, file: &TrainedFile, manifest: &Value) {
    let shapes = file.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()));
    let bytes = write_checkpoint(file.tensors(), &aliases(shapes)).unwrap();
    let found = read_archive(std::io::Cursor::new(&bytes)).unwrap().tensors;
    let mut names: Vec<String> = Vec::new();
    for (table, contents) in manifest["contents"].as_object().unwrap() {
        names.extend(contents.as_object().unwrap().keys().map(|key| format!("{table}.{key}")));
    }
    names.sort();
    assert!(found.keys().eq(&names), "{name}: {:?}", found.keys());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.pth.tar");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(TrainedFile::read(&path).unwrap().tensors(), file.tensors(), "{name}");
}

#[test]
fn golden_checkpoint_hostile() {
    let good = cases("checkpoint");
    for hostile in cases("checkpoint/hostile") {
        // A hostile file is a valid file of its set with one change.
        let good = good.iter().find(|good| good.root() == hostile.root()).unwrap();
        let model = model(good, PRECISIONS[1].0);
        let before = model.trainables().flat().copy();
        let path = hostile.folder().join("checkpoint.pth.tar");
        let result = TrainedFile::read(&path)
            .and_then(|file| model.trainables().load(&file, &model.tuners().constants(), None));
        // The prefix `module.` is removed from the names, as the official code does when it saves.
        if hostile.manifest["expect"].as_str().unwrap().starts_with("load") {
            result.unwrap_or_else(|error| panic!("{}: {error}", hostile.name));
        } else {
            let error = result.expect_err(&hostile.name).to_string();
            eprintln!("{}: {}", hostile.name, error.lines().next().unwrap_or_default());
            assert!(
                error.contains("checkpoint.pth.tar"),
                "{}: the error names the file: {error}",
                hostile.name
            );
            assert_eq!(before, model.trainables().flat(), "{}: nothing is partially loaded", hostile.name);
        }
        for folder in [Path::new("."), &hostile.folder()] {
            assert!(!folder.join("PWNED").exists(), "the code in {} was executed", hostile.name);
        }
    }
}
