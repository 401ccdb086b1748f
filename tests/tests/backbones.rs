//! Backbones: what their files leave open, files that change, ranks that read different ones.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::launched::{assert_same_result, repository, wait_for_step};
use tests::{binary, json, mpirun, run, stderr, succeed, trainer};

/// The demo's backbone as a file of one's own: a CLIP in OpenAI's layout, in fp32, for pictures of 32 pixels.
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

/// Settings of a run on the demo's pictures with weights from a file. Its vocabulary is not CLIP's, so the head does not
/// start from text.
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

fn check(weights: &Path, more: &[&str]) -> (Option<i32>, serde_json::Value, String) {
    let output = run(trainer(1).args(["check", "--json"]).args(settings(weights)).args(more));
    let value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), value, stderr(&output))
}

#[test]
fn check_shows_the_backbone_and_takes_open_facts_from_the_configuration_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = weights(folder.path());
    let (code, shown, said) = check(&file, &[]);
    assert_eq!(code, Some(0), "{said}");
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
    let (code, shown, said) = check(&file, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&shown["activation"], &shown["pooling"]), (&"gelu".into(), &"avg".into()));
    let (code, _, said) = check(&file, &["--set", "model.activation=quick_gelu"]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("contradicts") && said.contains("open_clip_config.json, which states gelu"),
        "{said}"
    );
}

#[test]
fn a_file_of_another_shape_than_the_preset_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, said) = check(&weights(folder.path()), &["--set", "model.layers=4"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("the number of blocks is 3, but --set model.layers=4 states 4"), "{said}");
    let file = folder.path().join("weights.safetensors");
    let plain =
        ["check", "-d", "demo", "-m", "clip_vit_b16", "--set", &format!("model.weights={}", file.display())];
    let output = run(trainer(1).args(plain));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("configs/model/clip_vit_b16.toml states 16"), "{}", stderr(&output));
}

/// Puts a number at the end of the last tensor.
fn spoil(file: &Path, number: f32) {
    let mut bytes = std::fs::read(file).unwrap();
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&number.to_le_bytes());
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for number in [f32::NAN, f32::NEG_INFINITY] {
        let file = weights(folder.path());
        spoil(&file, number);
        let (code, _, said) = check(&file, &[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("contains a value that is not finite") && said.contains("tensor `"), "{said}");
    }
}

#[test]
fn ranks_that_read_different_weights_from_the_same_path_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (host, number) in [("a", None), ("b", Some(0.25))] {
        let file = weights(&folder.path().join(host));
        if let Some(number) = number {
            spoil(&file, number);
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

/// A training that is long enough to be met under way, and the folder it writes.
fn training(file: &Path, run: &Path) -> Command {
    let mut command = trainer(1);
    command.arg("train").args(settings(file)).arg("--output").arg(run);
    for setting in ["train.max_steps=12", "train.batch_size=32", "train.determinism=same_world"] {
        command.args(["--set", setting]);
    }
    command
}

#[test]
fn a_file_that_is_overwritten_or_cut_while_a_run_uses_it_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = weights(folder.path());
    let expected = folder.path().join("expected");
    succeed(&mut training(&file, &expected));
    for (name, harm) in [("overwritten", true), ("cut", false)] {
        let file = weights(folder.path());
        let run = folder.path().join(name);
        let mut child = training(&file, &run).stderr(std::process::Stdio::null()).spawn().unwrap();
        wait_for_step(&run, 1);
        if harm {
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
fn a_frozen_weight_that_changes_in_memory_ends_the_run_before_a_checkpoint_holds_what_follows() {
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
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("rank 1: the frozen weights changed during the run (class_token), found after step 2"),
        "{said}"
    );
    assert_eq!(tests::checkpoints(&output_folder), vec![]);
    assert_eq!(json(&output_folder.join("status.json"))["phase"], "failed");
}
