//! `lift-trainer export`: the exported file gives the same predictions, and PyTorch reads it as a checkpoint of the
//! official code. Official checkpoints that do not fit are refused before other files are read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use protocol::layout;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::{python, run, stderr, succeed, trainer};

/// A short run of the embedded demo on two ranks, with a checkpoint after every step.
fn trained(folder: &Path) -> PathBuf {
    let path = folder.join("run");
    let mut command = trainer(2);
    command.args(["train", "-q", "-d", "demo", "-m", "demo", "--method", "lift"]);
    for setting in ["train.max_steps=3", "train.threads=1", "checkpoint.every_steps=1"] {
        command.args(["--set", setting]);
    }
    succeed(command.arg("--output").arg(&path));
    path
}

fn export(run: &Path, output: &Path) -> Command {
    let mut command = trainer(1);
    command.args(["export", "--format", "lift", "--run"]).arg(run).arg("--output").arg(output);
    command
}

/// The messages of a command that must be refused.
fn refused(command: &mut Command) -> String {
    let output = run(command);
    assert_eq!(output.status.code(), Some(2), "{command:?}\n{}", stderr(&output));
    stderr(&output)
}

#[test]
fn an_exported_run_gives_the_same_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let (trained, file) = (trained(folder.path()), folder.path().join("checkpoint.pth.tar"));
    succeed(&mut export(&trained, &file));
    let predictions = |name: &str, what: &[&str]| {
        let path = folder.path().join(name);
        let mut command = trainer(2);
        command.arg("eval").args(what).args(["--set", "train.threads=1", "--predictions"]).arg(&path);
        succeed(&mut command);
        std::fs::read_to_string(path).unwrap()
    };
    let (trained, file) = (trained.to_str().unwrap(), file.to_str().unwrap());
    let ours = predictions("run.txt", &["--run", trained]);
    let result = folder.path().join("eval");
    let weights = ["--weights", file, "-d", "demo", "-m", "demo", "--output", result.to_str().unwrap()];
    assert_eq!(predictions("weights.txt", &weights), ours);
    let start = trainer(1).args(["eval", "--weights", file, "--method", "classifier"]).output().unwrap();
    assert_eq!(start.status.code(), Some(2), "the tensors of the tuner are not ignored");

    // Compares with the tensors that PyTorch reads, if a Python with PyTorch exists.
    let Some(python) = python::with_torch("an_exported_run_gives_the_same_predictions") else { return };
    let seen = succeed(Command::new(python).args(["-c", LISTING, file]));
    let seen = String::from_utf8(seen.stdout).unwrap();
    let bytes = std::fs::read(Path::new(trained).join(layout::FINAL_WEIGHTS)).unwrap();
    let mut expected: Vec<String> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .iter()
        .map(|(name, view)| format!("{name} {:?} {:?}", view.shape(), view.data()))
        .collect();
    expected.sort();
    let mut lines: Vec<&str> = seen.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, expected, "PyTorch reads the same tensors");
}

/// Reads a checkpoint like the official loader, and with `weights_only`; prints one line per tensor.
const LISTING: &str = r#"
import collections, sys, torch
file = torch.load(sys.argv[1], weights_only=True)
assert list(file) == ["tuner", "head"], list(file)
again = torch.load(sys.argv[1], map_location="cpu", weights_only=False)
for table, tensors in file.items():
    assert type(tensors) is collections.OrderedDict, type(tensors)
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, again[table][name])
        data = tensor.contiguous().reshape(-1).view(torch.uint8).tolist()
        print(f"{table}.{name}", list(tensor.shape), data)
"#;

#[test]
fn a_file_is_replaced_only_with_force_and_an_unfinished_run_can_be_exported() {
    let folder = tempfile::tempdir().unwrap();
    let (trained, file) = (trained(folder.path()), folder.path().join("checkpoint.pth.tar"));
    std::fs::write(&file, "of somebody").unwrap();
    let messages = refused(&mut export(&trained, &file));
    assert!(messages.contains("it exists") && messages.contains("--force"), "{messages}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "of somebody");
    succeed(export(&trained, &file).arg("--force"));
    let finished = std::fs::read(&file).unwrap();

    // Without final weights, the newest checkpoint is exported with a note.
    std::fs::remove_file(trained.join(layout::FINAL_WEIGHTS)).unwrap();
    let output = succeed(export(&trained, &file).args(["--force", "-q"]));
    assert!(stderr(&output).contains("newest checkpoint is exported, of step 3"), "{}", stderr(&output));
    assert_eq!(std::fs::read(&file).unwrap(), finished);
    std::fs::remove_dir_all(trained.join(layout::CHECKPOINTS)).unwrap();
    let messages = refused(export(&trained, &file).arg("--force"));
    assert!(messages.contains("neither final.safetensors nor a checkpoint"), "{messages}");
    let messages = refused(&mut export(&trained, &folder.path().join("absent/checkpoint.pth.tar")));
    assert!(messages.contains("/absent`\nhint: create it: `mkdir -p "), "{messages}");
    assert_eq!(std::fs::read(&file).unwrap(), finished);
}

#[test]
fn a_run_without_a_trained_head_cannot_be_exported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut command = trainer(1);
    command.args(["train", "-q", "--method", "zero_shot", "--set", "train.threads=1", "--output"]);
    succeed(command.arg(&path));
    let messages = refused(&mut export(&path, &folder.path().join("checkpoint.pth.tar")));
    assert!(messages.contains("the head is not trained"), "{messages}");
}

#[test]
fn a_checkpoint_of_another_tuner_is_refused_before_data_and_backbone_are_read() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/official/checkpoint.pth.tar");
    for ranks in [1, 2] {
        let mut command = trainer(ranks);
        command.args(["eval", "-d", "cifar100_ir100", "-m", "clip_vit_b16", "--method", "full", "--weights"]);
        command.arg(&file);
        // Neither exists, and neither is read.
        for setting in ["data.root=/absent/data", "model.weights=/absent/weights.safetensors"] {
            command.args(["--set", setting]);
        }
        let messages = refused(&mut command);
        assert_eq!(messages.matches("error:").count(), 1, "reported once: {messages}");
        assert!(messages.contains("does not fit tuner.kinds=[full], head.kind=cosine"), "{messages}");
        assert!(
            messages.contains("--set 'tuner.kinds=[\"adaptformer\"]' --set tuner.adapter_dim=3"),
            "{messages}"
        );
    }
}
