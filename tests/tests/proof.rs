//! Official checkpoints give the official predictions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::official::{Official, OfficialRun};
use tests::{json, run, stderr, succeed};

fn checkpoint(official: &Official, file: &str) -> PathBuf {
    official.backbones.join("official_lift_seed0").join(file)
}

fn eval(official: &Official, ranks: usize, method: &str, weights: &Path, output: &Path) -> Command {
    let mut command = official.command(ranks, "eval", method);
    command.arg("--weights").arg(weights).arg("--output").arg(output);
    command
}

#[test]
fn the_official_checkpoint_gives_3061_of_10000_on_any_number_of_ranks() {
    let Some(official) = Official::find("official checkpoint") else { return };
    let folder = tempfile::tempdir().unwrap();
    for (ranks, file) in
        [(1, "checkpoint.safetensors"), (2, "checkpoint.pth.tar"), (3, "checkpoint.safetensors")]
    {
        let output = folder.path().join(format!("{ranks}"));
        let predictions = folder.path().join(format!("predictions-{ranks}.txt"));
        let mut command = eval(&official, ranks, "lift", &checkpoint(&official, file), &output);
        succeed(command.arg("--predictions").arg(&predictions));
        let result = json(&output.join("result.json"));
        assert_eq!(
            (result["correct"].as_u64(), result["total"].as_u64()),
            (Some(3061), Some(10000)),
            "{file}"
        );
        compare_predictions(&official, &predictions);
        assert_eq!(result["predictions"].as_array().map(Vec::len), Some(10000));
    }
}

#[test]
#[ignore = "long; `make test-long` runs it"]
fn official_checkpoints_of_other_options_give_the_official_predictions() {
    let Some(official) = Official::find("official checkpoints of other options") else { return };
    assert_predictions_agree(&official, 1, official.runs().iter());
}

/// Every third checkpoint; `make accuracy` evaluates all of them on three ranks.
#[test]
#[ignore = "long; `make test-long` runs it"]
fn official_checkpoints_of_other_options_give_the_official_predictions_on_3_ranks() {
    let Some(official) = Official::find("official checkpoints of other options on 3 ranks") else { return };
    assert_predictions_agree(&official, 3, official.runs().iter().step_by(3));
}

fn assert_predictions_agree<'a>(
    official: &Official,
    ranks: usize,
    runs: impl Iterator<Item = &'a OfficialRun>,
) {
    for run in runs {
        let folder = tempfile::tempdir().unwrap();
        let comparison = run.evaluate(official, ranks, folder.path());
        println!("{} on {ranks} ranks: {comparison:?}", run.name);
        assert!(comparison.agree(), "{} on {ranks} ranks: {comparison:?}", run.name);
    }
}

#[test]
#[ignore = "long; `make test-long` runs it"]
fn the_official_checkpoint_gives_3236_of_10000_with_five_crops() {
    let Some(official) = Official::find("official checkpoint with five crops") else { return };
    let output = tempfile::tempdir().unwrap();
    let output = output.path().join("run");
    let weights = checkpoint(&official, "checkpoint.pth.tar");
    succeed(eval(&official, 2, "lift", &weights, &output).args(["--set", "eval.crops=five"]));
    let result = json(&output.join("result.json"));
    let correct = result["correct"].as_u64().unwrap();
    assert!(correct.abs_diff(3236) <= 3, "{correct} of 10,000, officially 3,236");
    // `expand` is 6 by LIFT's rule for patches of 4 pixels.
    let views = serde_json::json!({"split": "test", "crops": "five", "crops_per_image": 5, "expand": 6});
    assert_eq!(result["evaluation"], views);
}

/// Asserts equality except for images whose two largest logits differ by less than 1e-4; the README counts two of them.
fn compare_predictions(official: &Official, found: &Path) {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let (expected, found) = (read(&checkpoint(official, "test_predictions.txt")), read(found));
    let pairs = expected.lines().zip(found.lines());
    let different = pairs.filter(|(a, b)| a.trim() != b.trim()).count();
    assert_eq!(found.lines().count(), 10_000);
    assert!(different <= 2, "{different} predictions differ");
}

#[test]
fn lift_before_any_step_gets_2927_of_10000() {
    let Some(official) = Official::find("LIFT before training") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = official.command(2, "train", "lift");
    command.args(["--set", "train.epochs=0"]);
    succeed(command.arg("--output").arg(folder.path().join("run")));
    assert_eq!(json(&folder.path().join("run/result.json"))["correct"], Value::from(2927));
}

#[test]
fn zero_shot_gets_3107_of_10000() {
    let Some(official) = Official::find("zero-shot") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = official.command(1, "train", "zero_shot");
    succeed(command.arg("--output").arg(folder.path().join("run")));
    assert_eq!(json(&folder.path().join("run/result.json"))["correct"], Value::from(3107));
}

#[test]
fn tensors_that_do_not_fit_are_listed_and_nothing_is_loaded() {
    let Some(official) = Official::find("checkpoints that do not fit") else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let weights = checkpoint(&official, "checkpoint.safetensors");
    let refused = run(&mut eval(&official, 1, "classifier", &weights, &output));
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("it holds tensors of adaptformer_list"), "{}", stderr(&refused));
    let other = run(eval(&official, 1, "lift", &weights, &output).args(["--set", "tuner.adapter_dim=4"]));
    assert_eq!(other.status.code(), Some(2), "{}", stderr(&other));
    assert!(stderr(&other).contains("--set tuner.adapter_dim=8"), "{}", stderr(&other));
    assert!(!output.join("result.json").exists());
}

#[test]
fn a_truncated_archive_and_a_pickle_with_code_are_refused() {
    let Some(official) = Official::find("hostile checkpoints") else { return };
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(checkpoint(&official, "checkpoint.pth.tar")).unwrap();
    let cut = folder.path().join("cut.pth.tar");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let hostile = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/checkpoint/hostile/os-system/checkpoint.pth.tar");
    for file in [cut, hostile] {
        let output = folder.path().join("run");
        let refused = run(eval(&official, 2, "lift", &file, &output).current_dir(folder.path()));
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
        assert_eq!(
            stderr(&refused).matches("error:").count(),
            1,
            "only rank 0 reports: {}",
            stderr(&refused)
        );
        assert!(!folder.path().join("PWNED").exists());
    }
}
