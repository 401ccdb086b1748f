//! Wrong input: one error with the thing and the remedy, on rank 0 only, exit code 2, all ranks end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use tests::{run, stderr, trainer};

/// Runs a command that must be refused, and returns its messages.
fn refused(command: &mut Command) -> String {
    let output = run(command);
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{command:?}\n{messages}");
    assert_eq!(messages.matches("error:").count(), 1, "reported once: {messages}");
    messages
}

/// `train` with a list data set under `root`, into its folder `run`.
fn train_lists(ranks: usize, root: &Path) -> Command {
    train_lists_into(ranks, root, "run")
}

fn train_lists_into(ranks: usize, root: &Path, run: &str) -> Command {
    let mut command = trainer(ranks);
    let own = root.join("own.toml");
    std::fs::write(
        &own,
        "[data]\nlayout = \"lists\"\nroot = \".\"\ntrain_list = \"train.txt\"\ntest_list = \"test.txt\"\nclass_names = \"names.txt\"\n",
    )
    .unwrap();
    command.args(["train", "-m", "demo", "--set", "train.epochs=0"]).arg("-d").arg(own);
    command.arg("--output").arg(root.join(run));
    command
}

/// A list data set of two classes with intact images.
fn lists(root: &Path) {
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/images/odd/pngsuite_basi0g01.png");
    std::fs::copy(&picture, root.join("a b.png")).unwrap_or_else(|e| panic!("{}: {e}", picture.display()));
    std::fs::write(root.join("train.txt"), "a b.png 0\na b.png 1\n").unwrap();
    std::fs::write(root.join("test.txt"), "a b.png 1\n").unwrap();
    std::fs::write(root.join("names.txt"), "red circle\nblue square\n").unwrap();
}

#[test]
fn an_unknown_key_suggests_the_nearest_one() {
    let mut command = trainer(2);
    let messages = refused(command.args(["train", "--set", "train.epoch=3"]));
    assert!(messages.contains("`train.epoch`") && messages.contains("`train.epochs`"), "{messages}");
}

#[test]
fn an_unknown_preset_suggests_the_nearest_one() {
    let messages = refused(trainer(1).args(["train", "-d", "cifar100_ir10O"]));
    assert!(messages.contains("cifar100_ir100"), "{messages}");
}

#[test]
fn a_missing_weights_file_is_reported() {
    let messages = refused(trainer(2).args([
        "train",
        "-m",
        "tiny_clip",
        "--set",
        "model.weights=/nowhere/clip.safetensors",
    ]));
    assert!(messages.contains("/nowhere/clip.safetensors"), "{messages}");
}

#[test]
fn a_global_batch_smaller_than_the_world_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = trainer(3);
    command.args(["train", "--set", "train.batch_size=2"]).arg("--output").arg(folder.path().join("run"));
    let messages = refused(&mut command);
    assert!(messages.contains("train.batch_size") && messages.contains("3 ranks"), "{messages}");
    assert!(!folder.path().join("run").exists(), "nothing is written");
}

#[test]
fn wrong_lists_are_refused_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    lists(root);
    std::fs::write(root.join("train.txt"), "a b.png 0\njust-a-name\n").unwrap();
    let messages = refused(&mut train_lists(2, root));
    assert!(messages.contains("train.txt:2"), "{messages}");
    std::fs::write(root.join("train.txt"), "a b.png 0\na b.png 7\n").unwrap();
    let messages = refused(&mut train_lists(1, root));
    assert!(messages.contains("train.txt:2") && messages.contains('7'), "{messages}");
    std::fs::write(root.join("train.txt"), "").unwrap();
    let messages = refused(&mut train_lists(1, root));
    assert!(messages.contains("train.txt"), "{messages}");
    lists(root);
    std::fs::write(root.join("names.txt"), "").unwrap();
    let messages = refused(&mut train_lists(1, root));
    assert!(messages.contains("names.txt"), "{messages}");
}

#[test]
fn a_list_with_spaces_in_its_paths_works() {
    let folder = tempfile::tempdir().unwrap();
    lists(folder.path());
    let output = run(&mut train_lists(2, folder.path()));
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn an_image_that_does_not_decode_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    lists(root);
    std::fs::write(root.join("bad.png"), b"not a picture").unwrap();
    std::fs::write(root.join("test.txt"), "a b.png 1\nbad.png 0\n").unwrap();
    let output = run(&mut train_lists(2, root));
    assert!(!output.status.success());
    assert!(stderr(&output).contains("bad.png"), "{}", stderr(&output));
}

#[test]
fn broken_training_images_are_counted_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    lists(root);
    std::fs::write(root.join("bad.png"), b"not a picture").unwrap();
    std::fs::write(root.join("train.txt"), "a b.png 0\nbad.png 1\na b.png 1\n").unwrap();
    let train = |limit: &str, name: &str| {
        let mut command = train_lists_into(2, root, name);
        run(command.args(["--set", "train.epochs=1", "--set", "train.batch_size=3", "--set", limit]))
    };
    let within = train("data.max_bad_images=1", "within");
    assert!(within.status.success(), "{}", stderr(&within));
    assert_eq!(tests::json(&root.join("within/result.json"))["bad_images"], 1);
    let beyond = train("data.max_bad_images=0", "beyond");
    assert!(!beyond.status.success());
    assert!(stderr(&beyond).contains("bad.png"), "{}", stderr(&beyond));
}

#[test]
fn an_existing_run_is_not_mixed_with_another() {
    let folder = tempfile::tempdir().unwrap();
    let train = |seed: &str| {
        let mut command = trainer(1);
        command
            .args(["train", "--set", "train.epochs=0", "--set", seed])
            .arg("--output")
            .arg(folder.path().join("run"));
        command
    };
    let first = run(&mut train("train.seed=1"));
    assert!(first.status.success(), "{}", stderr(&first));
    let messages = refused(&mut train("train.seed=2"));
    assert!(messages.contains("already holds") && messages.contains("--output"), "{messages}");
}

#[test]
fn one_rank_is_refused_if_the_launcher_has_started_more() {
    let train = |variables: &[(&str, &str)]| {
        let mut command = trainer(1);
        command.envs(variables.iter().copied()).args(["train", "--set", "train.epochs=0", "-o"]);
        command
    };
    let folder = tempfile::tempdir().unwrap();
    for variables in [
        &[("OMPI_COMM_WORLD_SIZE", "4")][..],
        &[("PMI_SIZE", "4")],
        &[("SLURM_NTASKS", "4")],
        &[("JSM_NAMESPACE_SIZE", "4"), ("JSM_NAMESPACE_RANK", "1")],
        &[("FLUX_JOB_SIZE", "4"), ("FLUX_TASK_RANK", "1")],
        &[("PALS_LOCAL_SIZE", "4"), ("PALS_RANKID", "1")],
        &[("WORLD_SIZE", "4"), ("RANK", "1"), ("LOCAL_RANK", "1"), ("TORCHELASTIC_RUN_ID", "none")],
    ] {
        let messages = refused(train(variables).arg(folder.path().join("refused")));
        assert!(
            messages.contains(variables[0].0) && messages.contains("each process would run alone"),
            "{messages}"
        );
    }
    // A world size of 1 is correct, and a world size without a rank says nothing about this process.
    for variables in [&[("WORLD_SIZE", "1"), ("RANK", "0")], &[("WORLD_SIZE", "4"), ("MASTER_ADDR", "a")]] {
        let output = run(train(variables).arg(folder.path().join("alone")));
        assert!(output.status.success(), "{}", stderr(&output));
        std::fs::remove_dir_all(folder.path().join("alone")).unwrap();
    }
}

#[test]
fn allotted_gpus_without_cuda_are_refused() {
    if Path::new("/proc/driver/nvidia/version").exists() {
        eprintln!("skipped: allotted_gpus_without_cuda_are_refused (this machine has a GPU)");
        return;
    }
    let messages = refused(trainer(1).env("SLURM_JOB_GPUS", "0").args(["train", "--set", "train.epochs=0"]));
    assert!(messages.contains("SLURM_JOB_GPUS=0") && messages.contains("train.device=cpu"), "{messages}");
}

#[test]
fn wrong_arguments_are_reported_once() {
    let messages = refused(trainer(3).args(["train", "--sed", "x"]));
    assert!(messages.contains("--sed"), "{messages}");
}

#[test]
fn weights_of_another_model_are_refused() {
    let weights = |model: &str, file: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let mut command = trainer(2);
        command.args(["train", "-m", model, "--set", "train.epochs=0"]);
        refused(command.arg("--set").arg(format!("model.weights={}", path.display())))
    };
    let shape = weights("clip_vit_b16", "fixtures/weights/clip_vit.openai.safetensors");
    assert!(
        shape.contains("the side of a patch is 8, but configs/model/clip_vit_b16.toml states 16"),
        "{shape}"
    );
    let layout = weights("in21k_vit_b16", "../assets/demo_clip.safetensors");
    assert!(layout.contains("contains a CLIP, or its image tower"), "{layout}");
}

#[test]
fn files_that_are_no_backbone_are_refused_with_their_type() {
    let folder = tempfile::tempdir().unwrap();
    let pointer = folder.path().join("model.safetensors");
    std::fs::write(&pointer, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").unwrap();
    let torch = |file: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/torch_files").join(file);
    for (path, expected) in [
        (pointer.clone(), "a Git LFS pointer"),
        (folder.path().to_owned(), "a Git LFS pointer"),
        (torch("whole_model.pt"), "global `__main__.Model`"),
        (torch("two_models.pt"), "`model.` and `model_ema.`"),
        (torch(""), "files that may be weights"),
    ] {
        let mut command = trainer(1);
        command.args(["check", "-m", "clip_vit_b16", "--set"]);
        let messages = refused(command.arg(format!("model.weights={}", path.display())));
        assert!(messages.contains(expected), "{}: {messages}", path.display());
    }
}
