//! Backbones: facts that are missing in their files, files that change, ranks that read different files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::launched::{assert_same_result, repository, wait_for_step};
use tests::{binary, json, mpirun, run, stderr, succeed, trainer};

/// Writes the backbone of the demo as a file: a CLIP in OpenAI's layout, in fp32, for images of 32 pixels.
fn weights(folder: &Path) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join("weights.safetensors");
    let halves = std::fs::read(repository().join("assets/demo_clip.safetensors")).unwrap();
    let halves = SafeTensors::deserialize(&halves).unwrap();
    let single = |bytes: &[u8]| -> Vec<u8> {
        bytes.as_chunks().0.iter().flat_map(|&half| f16::from_le_bytes(half).to_f32().to_le_bytes()).collect()
    };
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = halves
        .iter()
        .map(|(name, view)| (name.to_owned(), view.shape().to_vec(), single(view.data())))
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &path).unwrap();
    path
}

/// Settings of a run on the images of the demo with weights from a file. Its vocabulary is not CLIP's, so the head is
/// not initialised from text.
fn settings(weights: &Path) -> Vec<String> {
    let mut words: Vec<String> = ["-d", "demo", "-m", "tiny_clip"].map(str::to_owned).into();
    for setting in [
        &format!("model.weights={}", weights.display()),
        "model.layers=3",
        "model.mean=[0.5, 0.5, 0.5]",
        "model.std=[0.5, 0.5, 0.5]",
        "head.init=random",
        "train.threads=1",
    ] {
        words.extend(["--set".to_owned(), setting.to_owned()]);
    }
    words
}

fn check(weights: &Path, extra: &[&str]) -> (Option<i32>, serde_json::Value, String) {
    let output = run(trainer(1).args(["check", "--json"]).args(settings(weights)).args(extra));
    let value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), value, stderr(&output))
}

#[test]
fn check_shows_the_backbone_and_reads_missing_facts_from_its_configuration_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = weights(folder.path());
    let (code, shown, messages) = check(&file, &[]);
    assert_eq!(code, Some(0), "{messages}");
    assert_eq!((&shown["activation"], &shown["pooling"]), (&"quick_gelu".into(), &"token".into()));
    assert!(
        shown["notes"].to_string().contains("quick_gelu, as configs/model/tiny_clip.toml states"),
        "{shown}"
    );
    for key in
        ["family", "width", "layers", "heads", "patch", "resolution", "pixel_mean", "backbone_parameters"]
    {
        assert!(!shown[key].is_null(), "{key}: {shown}");
    }
    let config = folder.path().join("open_clip_config.json");
    std::fs::write(
        &config,
        r#"{"model_cfg": {"vision_cfg": {"width": 128, "head_width": 32, "pool_type": "avg"}, "text_cfg": {"heads": 2}}}"#,
    )
    .unwrap();
    let (code, shown, messages) = check(&file, &[]);
    assert_eq!(code, Some(0), "{messages}");
    assert_eq!((&shown["activation"], &shown["pooling"]), (&"gelu".into(), &"avg".into()));
    let (code, _, messages) = check(&file, &["--set", "model.activation=quick_gelu"]);
    assert_eq!(code, Some(2));
    assert!(
        messages.contains("contradicts") && messages.contains("open_clip_config.json, which states gelu"),
        "{messages}"
    );
}

#[test]
fn a_file_that_contradicts_the_preset_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, messages) = check(&weights(folder.path()), &["--set", "model.layers=4"]);
    assert_eq!(code, Some(2));
    assert!(messages.contains("the number of blocks is 3, but --set model.layers=4 states 4"), "{messages}");
    let file = folder.path().join("weights.safetensors");
    let plain =
        ["check", "-d", "demo", "-m", "clip_vit_b16", "--set", &format!("model.weights={}", file.display())];
    let output = run(trainer(1).args(plain));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("configs/model/clip_vit_b16.toml states 16"), "{}", stderr(&output));
}

/// Replaces the last value of the last tensor.
fn replace_last_value(file: &Path, number: f32) {
    let mut bytes = std::fs::read(file).unwrap();
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&number.to_le_bytes());
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn weights_that_are_not_finite_are_refused_with_the_tensor_name() {
    let folder = tempfile::tempdir().unwrap();
    for number in [f32::NAN, f32::NEG_INFINITY] {
        let file = weights(folder.path());
        replace_last_value(&file, number);
        let (code, _, messages) = check(&file, &[]);
        assert_eq!(code, Some(2), "{messages}");
        assert!(
            messages.contains("contains a value that is not finite") && messages.contains("tensor `"),
            "{messages}"
        );
    }
}

#[test]
fn ranks_that_read_different_weights_from_the_same_path_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (host, number) in [("a", None), ("b", Some(0.25))] {
        let file = weights(&folder.path().join(host));
        if let Some(number) = number {
            replace_last_value(&file, number);
        }
    }
    let arguments = settings(Path::new("/proc/self/cwd/weights.safetensors"));
    let mut command = mpirun(1);
    command.env("NO_COLOR", "1");
    for host in ["a", "b"] {
        if host == "b" {
            command.args([":", "-n", "1"]);
        }
        command.arg("-wdir").arg(folder.path().join(host)).arg(binary("lift-trainer")).arg("train");
        command.args(&arguments).args(["--set", "train.epochs=0"]);
    }
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("rank 1 has another backbone than rank 0"), "{}", stderr(&output));
}

/// A training that is long enough for a change of its file while it runs.
fn training(file: &Path, run: &Path) -> Command {
    let mut command = trainer(1);
    command.arg("train").args(settings(file)).arg("--output").arg(run);
    for setting in ["train.max_steps=12", "train.batch_size=32", "train.determinism=same_world"] {
        command.args(["--set", setting]);
    }
    command
}

#[test]
fn overwriting_or_truncating_a_mapped_file_does_not_change_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = weights(folder.path());
    let expected = folder.path().join("expected");
    succeed(&mut training(&file, &expected));
    for (name, overwrite) in [("overwritten", true), ("cut", false)] {
        let file = weights(folder.path());
        let run = folder.path().join(name);
        let mut child = training(&file, &run).stderr(std::process::Stdio::null()).spawn().unwrap();
        wait_for_step(&run, 1);
        if overwrite {
            let length = std::fs::metadata(&file).unwrap().len();
            let mut open = std::fs::File::options().write(true).open(&file).unwrap();
            open.seek(SeekFrom::Start(length / 2)).unwrap();
            open.write_all(&vec![0; (length / 2) as usize]).unwrap();
        } else {
            std::fs::File::options().write(true).open(&file).unwrap().set_len(1000).unwrap();
        }
        assert!(child.wait().unwrap().success(), "{name}");
        assert_same_result(&expected, &run);
    }
}

#[test]
fn a_frozen_weight_that_changes_in_memory_ends_the_run_before_the_next_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let output_folder = folder.path().join("run");
    let mut command = mpirun(2);
    command.arg(binary("lift-trainer-faults")).args(["train", "--output"]).arg(&output_folder);
    command.env("LIFT_PLANTED", "changed_weight").env("NO_COLOR", "1");
    for setting in ["train.max_steps=6", "train.batch_size=16", "checkpoint.every_steps=2", "train.threads=1"]
    {
        command.args(["--set", setting]);
    }
    let output = run(&mut command);
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{messages}");
    assert!(
        messages
            .contains("rank 1: the frozen weights changed during the run (class_token), found after step 2"),
        "{messages}"
    );
    assert_eq!(tests::checkpoints(&output_folder), vec![]);
    assert_eq!(json(&output_folder.join("status.json"))["phase"], "failed");
}
