//! Heads and their initialisation in real runs: replicated and sharded, on any number of ranks, after a resume, from
//! files. Impossible initialisations are refused before long work.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use std::collections::BTreeMap;
use std::path::Path;
use tests::stripes::{data_beside, final_bytes, short_run};
use tests::{json, losses, run, stderr, succeed, trainer, within};

/// Shape and values of a tensor in `final.safetensors`.
fn tensor(run: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = final_bytes(run);
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    let numbers = tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    (tensor.shape().to_vec(), numbers.collect())
}

#[test]
fn law_1_every_trained_head_has_the_same_losses_replicated_and_sharded() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["linear", "cosine", "l2_norm", "layer_norm"] {
        let path = |ranks: usize| folder.path().join(format!("{kind}{ranks}"));
        let kind = format!("head.kind={kind}");
        let settings = [&kind, "train.max_steps=6", "head.init=random", "train.batch_size=16"];
        succeed(&mut short_run(1, &path(1), &settings));
        succeed(&mut short_run(2, &path(2), &[&settings[..], &["head.placement=sharded"]].concat()));
        within(&losses(&path(2)), &losses(&path(1)), 1e-5);
        let ((shape, one), (same_shape, two)) =
            (tensor(&path(1), "head.weight"), tensor(&path(2), "head.weight"));
        assert_eq!(shape, same_shape, "{kind}");
        assert!(one.iter().zip(&two).all(|(a, b)| (a - b).abs() < 1e-4), "{kind}");
    }
    let (shape, bias) = tensor(&folder.path().join("linear2"), "head.bias");
    assert_eq!(shape, [bias.len()]);
    assert!(bias.iter().any(|&b| b != 0.0), "the bias is trained");
}

#[test]
fn law_7_a_sharded_linear_head_resumes_bitwise() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, legs) = (folder.path().join("whole"), folder.path().join("legs"));
    let settings = [
        "head.kind=linear",
        "head.placement=sharded",
        "train.determinism=same_world",
        "train.batch_size=16",
        "head.init=random",
        "train.schedule=constant",
    ];
    let run_to = |output: &Path, steps: &str| {
        let mut command = short_run(2, output, &settings);
        command.args(["--set", steps, "--resume", "auto", "--allow-changed", "train.max_steps"]);
        succeed(&mut command);
    };
    run_to(&whole, "train.max_steps=8");
    run_to(&legs, "train.max_steps=5");
    run_to(&legs, "train.max_steps=8");
    assert_eq!(losses(&legs), losses(&whole));
    assert!(final_bytes(&legs) == final_bytes(&whole));
}

/// Two prompts for every class, with words in the vocabulary of the demo.
fn write_prompts(folder: &Path) -> String {
    let probe = folder.join("classes");
    succeed(&mut short_run(1, &probe, &["train.epochs=0", "head.init=random"]));
    let result = json(&probe.join("result.json"));
    let names = result["per_class"].as_array().unwrap().iter().map(|class| class["name"].as_str().unwrap());
    let texts: BTreeMap<&str, [String; 2]> =
        names.map(|name| (name, [format!("a photo of a {name}."), name.to_owned()])).collect();
    let path = folder.join("texts.json");
    std::fs::write(&path, serde_json::to_vec(&texts).unwrap()).unwrap();
    format!("head.prompts={}", path.display())
}

#[test]
fn law_1_initialisations_from_images_and_texts_are_bitwise_equal_on_any_world() {
    let folder = tempfile::tempdir().unwrap();
    let texts = write_prompts(folder.path());
    let initialisations: [&[&str]; 3] = [
        &["head.init=shots", "head.shots=3"],
        &["head.init=linear_probe", "head.kind=linear"],
        &["head.init=text", &texts],
    ];
    let mut first = Vec::new();
    for (number, start) in initialisations.into_iter().enumerate() {
        let path = |ranks: usize| folder.path().join(format!("{number}-{ranks}"));
        let settings = ["train.determinism=any_world", "train.max_steps=1", "train.batch_size=16"];
        for ranks in [1, 2] {
            succeed(&mut short_run(ranks, &path(ranks), &[&settings[..], start].concat()));
        }
        assert!(final_bytes(&path(2)) == final_bytes(&path(1)), "{start:?}");
        first.push(losses(&path(1))[0]);
    }
    first.dedup();
    assert_eq!(first.len(), initialisations.len(), "each initialisation is different: {first:?}");
}

#[test]
fn a_head_is_read_from_the_file_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let (trained, untouched) = (folder.path().join("trained"), folder.path().join("untouched"));
    succeed(&mut short_run(1, &trained, &["head.kind=linear", "train.max_steps=3"]));
    let file = format!("head.init={}", trained.join("final.safetensors").display());
    succeed(&mut short_run(2, &untouched, &["head.kind=linear", "train.epochs=0", &file]));
    for name in ["head.weight", "head.bias"] {
        assert_eq!(tensor(&untouched, name), tensor(&trained, name), "{name}");
    }
    let output = run(&mut short_run(1, &folder.path().join("none"), &["train.epochs=0", &file]));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("head with a bias\nhint: use head.kind=linear"), "{}", stderr(&output));
}

/// Asserts that `train` and `check` refuse these settings with exit code 2 and one error with these parts.
fn assert_refused(settings: &[&str], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut check = trainer(1);
    check.args(["check", "-m", "demo", "-d"]).arg(data_beside(&output));
    for setting in settings {
        check.args(["--set", setting]);
    }
    for mut command in [short_run(2, &output, settings), check] {
        let found = run(&mut command);
        let messages = stderr(&found);
        assert_eq!(found.status.code(), Some(2), "{settings:?}: {messages}");
        assert_eq!(messages.matches("error:").count(), 1, "reported once: {messages}");
        for part in parts {
            assert!(messages.contains(part), "`{part}` is missing in: {messages}");
        }
    }
    assert!(!output.exists(), "nothing is written");
}

#[test]
fn impossible_initialisations_are_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let (texts, head) = (folder.path().join("texts.json"), folder.path().join("head.safetensors"));
    std::fs::write(&texts, r#"{"a class of another data set": ["with a text"]}"#).unwrap();
    let numbers: Vec<u8> = [1.0_f32; 6].iter().flat_map(|number| number.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![2, 3], &numbers).unwrap();
    serialize_to_file(BTreeMap::from([("head.weight", view)]), None, &head).unwrap();
    let file = |key: &str, path: &Path| format!("{key}={}", path.display());
    assert_refused(
        &[&file("head.prompts", &texts)],
        &["texts.json has no text for class 0", "head.prompts=default"],
    );
    assert_refused(
        &[&file("head.init", &head)],
        &["head.safetensors has a head of shape [2, 3], expected ["],
    );
    assert_refused(&[&file("head.init", &folder.path().join("no.safetensors"))], &["no.safetensors"]);
    assert_refused(&["head.init=shots", "head.shots=0"], &["`head.shots` must be at least 1"]);
    assert_refused(&["head.init=shot"], &["head.init", "did you mean `shots`"]);
    assert_refused(&["head.init=text", "head.shots=3"], &["head.shots", "head.init"]);
}

#[test]
fn a_class_without_training_images_is_refused_before_images_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("train.txt", "nowhere/0.bmp 0\nnowhere/1.bmp 2\n");
    write("test.txt", "nowhere/2.bmp 1\n");
    write("names.txt", "red\nblue\ngreen\n");
    let preset = folder.path().join("own.toml");
    let lists = "[data]\nlayout = \"lists\"\nroot = \".\"\ntrain_list = \"train.txt\"\ntest_list = \"test.txt\"\nclass_names = \"names.txt\"\n";
    std::fs::write(&preset, lists).unwrap();
    for start in ["class_mean", "shots", "linear_probe"] {
        let mut command = trainer(1);
        command
            .args(["train", "-m", "demo", "-d"])
            .arg(&preset)
            .arg("--output")
            .arg(folder.path().join("run"));
        let output = run(command.args(["--set", &format!("head.init={start}")]));
        let messages = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{messages}");
        let expected = "class 1 (`blue`) has no training image to start from\nhint: use head.init=text or head.init=random";
        assert!(messages.contains(expected), "{start}: {messages}");
    }
}
