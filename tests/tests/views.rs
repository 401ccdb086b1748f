//! Evaluation with several crops and on both splits, on real ranks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use tests::stripes::StripedDataSet;
use tests::{metrics, run, stderr, succeed, trainer};

/// A short run on 41 training images, with twenty test images per class.
fn short_run(output: &Path, settings: &[&str]) -> Command {
    let root = output.with_file_name("data");
    let preset = root.join("stripes.toml");
    if !preset.exists() {
        let data = StripedDataSet::write(&root, [12, 8, 6, 4, 3, 3, 3, 2], 20).unwrap();
        std::fs::write(&preset, data.preset()).unwrap();
    }
    let mut command = trainer(1);
    command.args(["train", "-q", "--set", "train.threads=1", "--set", "train.max_steps=4"]);
    command.args(["--set", "eval.batch_size=7", "-m", "demo", "-d"]).arg(preset);
    set(&mut command, settings);
    command.arg("--output").arg(output);
    command
}

/// Evaluates a run with `eval --run`; returns the predictions as text, and the result.
fn evaluate(ranks: usize, of: &Path, output: &Path, settings: &[&str]) -> (String, Value) {
    let predictions = output.with_extension("txt");
    let mut command = trainer(ranks);
    command.args(["eval", "-q", "--run"]).arg(of).arg("--output").arg(output);
    set(&mut command, settings);
    succeed(command.arg("--predictions").arg(&predictions));
    (std::fs::read_to_string(predictions).unwrap(), tests::json(&output.join("result.json")))
}

fn set(command: &mut Command, settings: &[&str]) {
    for setting in settings {
        command.args(["--set", setting]);
    }
}

#[test]
fn law_2_crops_have_the_same_predictions_on_two_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    succeed(&mut short_run(&path("run"), &["eval.crops=five", "eval.expand=9"]));
    let (centre, _) = evaluate(1, &path("run"), &path("centre"), &["eval.crops=centre"]);
    let random = ["eval.crops=random", "eval.random_crops=2"];
    for (name, settings, placement) in
        [("five", [].as_slice(), "sharded"), ("random", random.as_slice(), "replicated")]
    {
        let (alone, result) = evaluate(1, &path("run"), &path(name), settings);
        assert_ne!(alone, centre, "{name}");
        let (head, backbone) =
            (format!("head.placement={placement}"), format!("backbone.placement={placement}"));
        let settings = [settings, &[&head, &backbone]].concat();
        let (predictions, other) = evaluate(2, &path("run"), &path(&format!("{name}-2")), &settings);
        assert_eq!(predictions, alone, "{name} {placement}");
        for figure in ["correct", "total", "per_class", "evaluation"] {
            assert_eq!(other[figure], result[figure], "{figure} of {name} {placement}");
        }
    }
}

#[test]
fn the_result_and_the_metrics_contain_the_evaluated_views() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let settings = [
        "eval.crops=random",
        "eval.random_crops=2",
        "eval.every_epochs=1",
        "train.epochs=1",
        "train.max_steps=0",
        "train.batch_size=1000",
    ];
    succeed(&mut short_run(&path("run"), &settings));
    let lines = metrics(&path("run"), "eval");
    let views: Vec<_> = lines.iter().map(|line| (&line["crops"], &line["split"])).collect();
    assert_eq!(views, [(&json!("random"), &json!("test"))]);
    let result = tests::json(&path("run").join("result.json"));
    assert_eq!(
        (&result["evaluation"]["crops"], &result["evaluation"]["crops_per_image"]),
        (&json!("random"), &json!(2))
    );
    assert_eq!(lines.last().unwrap()["correct"], result["correct"]);

    let settings = ["eval.split=train", "eval.crops=centre"];
    let (_, train) = evaluate(2, &path("run"), &path("train"), &settings);
    let views = json!({"split": "train", "crops": "centre", "crops_per_image": 1, "expand": null});
    assert_eq!(train["evaluation"], views);
    let classes = train["per_class"].as_array().unwrap();
    assert!(classes.iter().all(|class| class["test_count"] == class["train_count"]));
    let images: u64 = classes.iter().map(|class| class["train_count"].as_u64().unwrap()).sum();
    assert_eq!(train["total"], images);
    assert_ne!(train["total"], result["total"]);
}

#[test]
fn a_run_resumes_with_other_crops_only_if_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    succeed(&mut short_run(&output, &[]));
    let centre = tests::json(&output.join("result.json"));
    let again = |extra: &[&str]| {
        let mut command = short_run(&output, &["eval.crops=random"]);
        run(command.args(["--resume", "auto"]).args(extra))
    };
    let refused = again(&[]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("eval.crops: \"centre\" before, \"random\" now"),
        "{}",
        stderr(&refused)
    );
    let allowed = again(&["--allow-changed", "eval.crops"]);
    assert!(allowed.status.success(), "{}", stderr(&allowed));
    let random = tests::json(&output.join("result.json"));
    assert_eq!(random["evaluation"]["crops"], "random");
    assert_eq!(random["total"], centre["total"]);
}
