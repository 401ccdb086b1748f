//! Missing and broken images: detected before training if that is cheap, skipped consistently by every pass and on
//! any number of ranks up to a limit, without losing trained steps.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use tests::{json, losses, metrics, run, stderr, succeed, trainer};

/// A list data set of two classes: six training and three test images of each.
struct ImageSet(tempfile::TempDir);

const TRAINING: usize = 12;
const TEST: usize = 6;

impl ImageSet {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let list = |name: &str, images: usize| {
            let lines = (0..images).map(|i| format!("{name}/{i}.bmp {}\n", i % 2));
            fs::write(folder.path().join(format!("{name}.txt")), lines.collect::<String>()).unwrap();
        };
        list("train", TRAINING);
        list("test", TEST);
        fs::write(folder.path().join("names.txt"), "red\nblue\n").unwrap();
        let preset = "[data]\nlayout = \"lists\"\nroot = \".\"\ntrain_list = \"train.txt\"\ntest_list = \"test.txt\"\nclass_names = \"names.txt\"\n";
        fs::write(folder.path().join("own.toml"), preset).unwrap();
        let set = Self(folder);
        set.fill();
        set
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes every image intact.
    fn fill(&self) {
        for (split, images) in [("train", TRAINING), ("test", TEST)] {
            fs::create_dir_all(self.path(split)).unwrap();
            for i in 0..images {
                fs::write(self.path(&format!("{split}/{i}.bmp")), bmp(i)).unwrap();
            }
        }
    }

    fn break_images(&self, names: &[&str]) {
        for name in names {
            fs::write(self.path(name), "<html>404</html>").unwrap();
        }
    }

    fn train(&self, ranks: usize, name: &str, settings: &[&str]) -> Output {
        let mut command = trainer(ranks);
        command.args(["train", "-m", "demo", "--predictions"]).arg(self.path(&format!("{name}.txt")));
        command.arg("-d").arg(self.path("own.toml")).arg("--output").arg(self.path(name));
        let usual = ["train.epochs=2", "train.batch_size=4", "train.threads=1", "data.workers=1"];
        for setting in usual.iter().chain(settings) {
            match setting.split_once(' ') {
                Some((flag, value)) => command.args([flag, value]),
                None => command.args(["--set", setting]),
            };
        }
        run(&mut command)
    }

    fn predictions(&self, name: &str) -> Vec<i64> {
        let text = fs::read_to_string(self.path(&format!("{name}.txt"))).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

/// An image with the colour of its class, different for each number.
fn bmp(number: usize) -> Vec<u8> {
    let side = 32_u32;
    let mut bytes = b"BM".to_vec();
    for field in [54 + side * side * 3, 0, 54, 40, side, side, 24 << 16 | 1, 0, 0, 0, 0, 0, 0] {
        bytes.extend(field.to_le_bytes());
    }
    let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 20) as u8 % 60;
    for i in 0..side * side {
        let level = 150 + noise(i + number as u32 * 1000);
        bytes.extend(if number.is_multiple_of(2) { [20, 20, level] } else { [level, 20, 20] });
    }
    bytes
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// Asserts that there is one error, with these parts.
fn assert_error(output: &Output, parts: &[&str]) {
    let messages = stderr(output);
    assert_eq!(messages.matches("error:").count(), 1, "reported once: {messages}");
    for part in parts {
        assert!(messages.contains(part), "`{part}` is missing in: {messages}");
    }
}

#[test]
fn missing_images_are_detected_before_training() {
    let set = ImageSet::new();
    for image in ["test/0.bmp", "test/3.bmp", "train/5.bmp"] {
        fs::remove_file(set.path(image)).unwrap();
    }
    for ranks in [1, 2] {
        let output = set.train(ranks, "run", &["data.max_bad_images=2"]);
        assert_eq!(code(&output), Some(2), "{}", stderr(&output));
        assert_error(
            &output,
            &["2 images of the test list", "test/0.bmp", "1 image of the training list", "train/5.bmp"],
        );
        assert_error(&output, &["image 6 of class 1, `blue`"]);
        assert!(!set.path("run").exists(), "nothing is written");
    }
    let checked = run(trainer(1).args(["check", "-m", "demo", "-d"]).arg(set.path("own.toml")));
    assert_eq!(code(&checked), Some(2));
    assert_error(&checked, &["2 images of the test list", "test/0.bmp"]);
    let output = set.train(2, "within", &["data.max_bad_images=3"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(json(&set.path("within/result.json"))["bad_images"], 3);
}

/// Covers class means, both epochs, and the evaluations after each epoch.
#[test]
fn laws_1_2_4_images_are_skipped_consistently_on_any_number_of_ranks() {
    let set = ImageSet::new();
    set.break_images(&["train/3.bmp", "test/4.bmp"]);
    let settings = [
        "head.init=class_mean",
        "eval.every_epochs=1",
        "eval.batch_size=2",
        "data.max_bad_images=2",
        "train.determinism=any_world",
        "train.virtual_shards=2",
    ];
    for ranks in [1, 2] {
        let name = format!("run{ranks}");
        let output = set.train(ranks, &name, &settings);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        for image in ["training image `train/3.bmp`", "test image `test/4.bmp`"] {
            assert_eq!(stderr(&output).matches(image).count(), 1, "reported once: {}", stderr(&output));
        }
        let result = json(&set.path(&name).join("result.json"));
        assert_eq!((&result["bad_images"], &result["total"]), (&2.into(), &5.into()));
        assert_eq!(result["per_class"][0]["test_count"], 2, "test/4.bmp is of class 0");
        let predictions = set.predictions(&name);
        assert_eq!(predictions.len(), TEST, "one line per image");
        assert_eq!(predictions.iter().position(|&class| class == -1), Some(4));
        assert!(predictions.iter().enumerate().all(|(i, class)| i == 4 || (0..2).contains(class)));
        assert_eq!(metrics(&set.path(&name), "eval").len(), 2);
    }
    assert_eq!(set.predictions("run1"), set.predictions("run2"));
    assert_eq!(losses(&set.path("run2")), losses(&set.path("run1")), "bitwise");
}

#[test]
fn a_broken_test_image_does_not_lose_trained_steps() {
    let set = ImageSet::new();
    let whole = set.train(2, "whole", &[]);
    assert_eq!(code(&whole), Some(0), "{}", stderr(&whole));
    let weights = |name: &str| fs::read(set.path(name).join("final.safetensors")).unwrap();
    set.break_images(&["test/5.bmp"]);
    let settings = ["checkpoint.every_steps=0", "checkpoint.every_seconds=0"];
    for ranks in [1, 2] {
        let name = format!("run{ranks}");
        let output = set.train(ranks, &name, &settings);
        assert_eq!(code(&output), Some(1), "{}", stderr(&output));
        assert_error(&output, &["test/5.bmp", "data.max_bad_images", "6 steps", "--resume auto"]);
        let folder = set.path(&name);
        assert!(!folder.join("result.json").exists());
        assert_eq!(json(&folder.join("status.json"))["outcome"], "failed");
        if ranks == 2 {
            assert!(weights(&name) == weights("whole"), "the trained weights exist");
        }
    }
    let skipped = ["data.max_bad_images=1"];
    let output = set.train(2, "run2", &[&settings[..], &["--resume auto"], &skipped].concat());
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(weights("run2") == weights("whole"));
    set.fill();
    let repaired = succeed(trainer(1).args(["eval", "--json", "--run"]).arg(set.path("run1")));
    let result: serde_json::Value = serde_json::from_slice(&repaired.stdout).unwrap();
    assert_eq!(result["total"], 6);
    let output = set.train(1, "run1", &[&settings[..], &["--resume auto"]].concat());
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(json(&set.path("run1/result.json"))["correct"], result["correct"]);
}

/// Law 7: the step with the broken image is repeated after the repair.
#[test]
fn law_7_a_run_resumes_before_the_broken_image_that_ended_it() {
    let set = ImageSet::new();
    let settings = ["train.epochs=3", "head.init=random"];
    let whole = set.train(2, "whole", &settings);
    assert_eq!(code(&whole), Some(0), "{}", stderr(&whole));
    // The last batch of the first epoch.
    let listed = succeed(
        trainer(1)
            .args(["order", "-m", "demo", "--set", "train.batch_size=4", "--from", "11", "-d"])
            .arg(set.path("own.toml")),
    );
    let last = listed.stdout.split(|&byte| byte == b'\n').next().unwrap();
    let last: serde_json::Value = serde_json::from_slice(last).unwrap();
    set.break_images(&[&format!("train/{}.bmp", last["sample"])]);
    let output = set.train(2, "run", &settings);
    assert_eq!(code(&output), Some(1), "{}", stderr(&output));
    assert_error(&output, &[&format!("train/{}.bmp", last["sample"]), "the 2 steps made so far are saved"]);
    set.fill();
    let output = set.train(2, "run", &[&settings[..], &["--resume auto"]].concat());
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(losses(&set.path("run")), losses(&set.path("whole")));
    // Read by the evaluation after the first epoch.
    set.break_images(&["test/2.bmp"]);
    let settings = [&settings[..], &["eval.every_epochs=1"]].concat();
    let output = set.train(2, "tested", &settings);
    assert_eq!(code(&output), Some(1), "{}", stderr(&output));
    assert_error(&output, &["test/2.bmp", "the 3 steps made so far are saved"]);
    set.fill();
    let output = set.train(2, "tested", &[&settings[..], &["--resume auto"]].concat());
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(losses(&set.path("tested")), losses(&set.path("whole")));
    assert_eq!(metrics(&set.path("tested"), "eval").len(), 3);
}

#[test]
fn a_batch_without_a_readable_image_is_skipped() {
    let set = ImageSet::new();
    set.break_images(&["train/2.bmp", "train/7.bmp"]);
    for setting in ["train.determinism=same_world", "train.determinism=any_world"] {
        let name = setting.rsplit('=').next().unwrap();
        let few =
            ["train.batch_size=1", "train.virtual_shards=1", "head.init=random", "data.max_bad_images=2"];
        let few = if name == "any_world" { &few[..] } else { &[few[0], few[2], few[3]] };
        let output = set.train(1, name, &[&[setting], few].concat());
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        let steps = metrics(&set.path(name), "step");
        let empty = steps.iter().filter(|step| step["samples"] == 0);
        assert!(empty.clone().count() == 4 && empty.into_iter().all(|step| step["loss"].is_null()));
        assert_eq!(steps.iter().filter(|step| step["loss"].is_number()).count(), 2 * (TRAINING - 2));
        assert!(metrics(&set.path(name), "epoch").iter().all(|epoch| epoch["loss"].is_number()));
    }
    let all: Vec<String> = (0..TRAINING).map(|i| format!("train/{i}.bmp")).collect();
    set.break_images(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let output = set.train(2, "nothing", &["head.init=random", "data.max_bad_images=12"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(metrics(&set.path("nothing"), "epoch").iter().all(|epoch| epoch["loss"].is_null()));
}

#[test]
fn a_class_without_a_readable_image_has_no_mean() {
    let set = ImageSet::new();
    let blue: Vec<String> = (0..TRAINING).filter(|i| i % 2 == 1).map(|i| format!("train/{i}.bmp")).collect();
    set.break_images(&blue.iter().map(String::as_str).collect::<Vec<_>>());
    let output = set.train(2, "run", &["head.init=class_mean", "data.max_bad_images=6"]);
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
    assert_error(&output, &["none of the 6 training images of class 1 (`blue`) can be read"]);
    let output = set.train(2, "run", &["head.init=class_mean", "data.max_bad_images=5"]);
    assert_eq!(code(&output), Some(1), "{}", stderr(&output));
    assert_error(&output, &["6 images cannot be read, more than data.max_bad_images=5 allows"]);
    assert!(!set.path("run").exists(), "nothing is written");
}

fn evaluate(run_folder: &Path, extra: &[&str]) -> Output {
    run(trainer(1).args(["eval", "--run"]).arg(run_folder).args(extra))
}

#[test]
fn predictions_are_written_or_refused_before_the_evaluation() {
    let set = ImageSet::new();
    let output = set.train(1, "run", &["train.epochs=1"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let file = set.path("again");
    for ranks in [1, 2] {
        succeed(trainer(ranks).args(["eval", "--predictions"]).arg(&file).arg("--run").arg(set.path("run")));
        assert_eq!(fs::read(&file).unwrap(), fs::read(set.path("run.txt")).unwrap());
        fs::remove_file(&file).unwrap();
    }
    for wrong in [set.path("nowhere/file"), set.path("test")] {
        let output = evaluate(&set.path("run"), &["--predictions", wrong.to_str().unwrap()]);
        assert_eq!(code(&output), Some(2), "{}", stderr(&output));
        assert_error(&output, &["--predictions", wrong.to_str().unwrap()]);
    }
}

#[test]
fn an_evaluation_reports_data_that_differ_from_those_of_the_run() {
    let set = ImageSet::new();
    let output = set.train(1, "run", &["train.epochs=1"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let accuracy = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["accuracy"].clone()
    };
    let before = evaluate(&set.path("run"), &["--json"]);
    assert!(!stderr(&before).contains("warning"), "{}", stderr(&before));
    // A copy at another place, without the training images.
    let moved = tempfile::tempdir().unwrap();
    for name in ["train.txt", "test.txt", "names.txt", "test"] {
        fs::rename(set.path(name), moved.path().join(name)).unwrap();
    }
    let lost = evaluate(&set.path("run"), &[]);
    assert_eq!(code(&lost), Some(2), "{}", stderr(&lost));
    let root = format!("data.root={}", moved.path().display());
    let after = evaluate(&set.path("run"), &["--json", "--set", &root]);
    assert_eq!(code(&after), Some(0), "{}", stderr(&after));
    assert!(!stderr(&after).contains("warning"), "{}", stderr(&after));
    assert_eq!(accuracy(&after), accuracy(&before));
    // A changed list.
    fs::write(moved.path().join("test.txt"), "test/0.bmp 1\ntest/1.bmp 1\n").unwrap();
    let changed = evaluate(&set.path("run"), &["--json", "--quiet", "--set", &root]);
    assert_eq!(code(&changed), Some(0), "{}", stderr(&changed));
    assert!(stderr(&changed).contains("the data are not those"), "{}", stderr(&changed));
    let other = evaluate(&set.path("run"), &["--set", &root, "--set", "tuner.adapter_dim=3"]);
    assert_eq!(code(&other), Some(2), "{}", stderr(&other));
    assert_error(&other, &["tuner.adapter_dim", "eval --weights"]);
}
