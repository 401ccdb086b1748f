//! Runs of earlier versions resume and evaluate with unchanged results.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use tests::{json, losses, stderr, succeed, trainer, within};

/// Maximum difference of correct predictions between machines, due to almost equal logits.
const MAX_DIFFERENT: i64 = 4;
/// The preset of the demo's model has another one now.
const FIRST_MODEL: &str = "model.embedded=patch4";
/// Relative difference of losses between machines.
const ROUNDING: f64 = 1e-4;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/runs")
}

/// A writable copy of a run.
fn copy(run: &Path) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    succeed(Command::new("cp").arg("-r").arg(run).arg(&path));
    (folder, path)
}

fn train(data: &str, method: &str, settings: &[&str]) -> Command {
    let mut command = trainer(1);
    command.args(["train", "-q", "-d", data, "-m", "demo", "--method", method]);
    let fixed = ["train.threads=1", "train.determinism=same_world", FIRST_MODEL];
    for setting in fixed.iter().chain(settings) {
        command.args(["--set", setting]);
    }
    command
}

fn demo(steps: &str) -> Command {
    let first = ["data.demo_style=cluttered", "train.epochs=5", "train.batch_size=128"];
    train("demo", "lift", &[&[steps, "checkpoint.best=accuracy"][..], &first].concat())
}

fn assert_close(found: &serde_json::Value, expected: &serde_json::Value) {
    let difference = found["correct"].as_i64().unwrap() - expected["correct"].as_i64().unwrap();
    assert!(difference.abs() <= MAX_DIFFERENT, "{found}\n{expected}");
    assert_eq!(found["total"], expected["total"]);
}

/// Asserts that the steps after those of the fixture, and the result, equal those of the version that wrote it.
fn assert_resumed(run: &Path, done: usize, expected: &Path) {
    let expected = json(expected);
    let after: Vec<f64> =
        expected["losses"].as_array().unwrap().iter().filter_map(serde_json::Value::as_f64).collect();
    within(&losses(run)[done..], &after, ROUNDING);
    let difference = json(&run.join("result.json"))["correct"].as_i64().unwrap();
    assert!((difference - expected["correct"].as_i64().unwrap()).abs() <= MAX_DIFFERENT);
}

#[test]
fn a_finished_run_is_recognised() {
    let (_folder, run) = copy(&fixtures().join("demo"));
    let output = succeed(demo("train.max_steps=6").args(["--resume", "auto", "--output"]).arg(&run));
    assert!(stderr(&output).contains("already finished"), "{}", stderr(&output));
}

#[test]
fn a_run_evaluates_with_its_accuracy() {
    let run = fixtures().join("demo");
    let output = succeed(trainer(1).args(["eval", "--json", "--run"]).arg(&run));
    let found = serde_json::from_slice(&output.stdout).unwrap();
    assert_close(&found, &json(&run.join("result.json")));
    // The missing facts of an older run are reported, and nothing else.
    let messages = stderr(&output);
    let absent = messages.lines().find(|line| line.contains("the run was written by an older version"));
    assert!(absent.is_some_and(|keys| keys.contains(" model.activation,")), "{messages}");
    assert!(messages.contains("does not say with which data it was trained"), "{messages}");
    assert_eq!(messages.matches("warning").count(), 2, "{messages}");
}

#[test]
fn a_run_resumes_with_its_losses() {
    let (folder, run) = copy(&fixtures().join("demo"));
    let more = ["--allow-changed", "train.max_steps", "--resume"];
    let other = folder.path().join("other");
    succeed(demo("train.max_steps=9").args(more).arg(&run).arg("--output").arg(&other));
    assert_resumed(&other, 6, &fixtures().join("demo-resumed.json"));
    succeed(demo("train.max_steps=9").args(more).args(["auto", "--output"]).arg(&run));
    assert_resumed(&run, 6, &fixtures().join("demo-resumed.json"));
}

#[test]
fn a_run_on_files_resumes_and_its_final_weights_are_evaluated() {
    let place = fixtures().join("pictures");
    let (_folder, run) = copy(&place.join("run"));
    let data = place.join("pictures.toml").display().to_string();
    // Runs of that version decoded so.
    let settings = ["head.init=random", "train.epochs=4", "train.batch_size=3", "data.decode=exact"];
    let mut command = train(&data, "classifier", &settings);
    command.args(["--allow-changed", "train.max_steps", "--resume", "auto", "--output"]).arg(&run);
    succeed(&mut command);
    assert_resumed(&run, 5, &fixtures().join("pictures-resumed.json"));

    let weights = place.join("run/final.safetensors");
    let mut command = trainer(1);
    command.args([
        "eval",
        "--json",
        "-d",
        &data,
        "-m",
        "demo",
        "--method",
        "classifier",
        "--set",
        FIRST_MODEL,
    ]);
    command
        .args(["--set", "head.init=random", "--weights"])
        .arg(weights)
        .arg("--output")
        .arg(run.with_file_name("evaluated"));
    let found = serde_json::from_slice(&succeed(&mut command).stdout).unwrap();
    assert_close(&found, &json(&place.join("run/result.json")));
}

#[test]
fn missing_keys_of_an_older_run_have_their_defaults() {
    let (_folder, run) = copy(&fixtures().join("demo"));
    let config = run.join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let line = text.lines().find(|line| line.starts_with("prompt = ")).unwrap();
    std::fs::write(&config, text.replace(&format!("{line}\n"), "")).unwrap();
    let output = succeed(trainer(1).args(["eval", "--json", "--run"]).arg(&run));
    assert!(stderr(&output).contains("older version"), "{}", stderr(&output));
    assert!(stderr(&output).contains("head.prompt"), "{}", stderr(&output));
    let found = serde_json::from_slice(&output.stdout).unwrap();
    assert_close(&found, &json(&run.join("result.json")));
    succeed(demo("train.max_steps=6").args(["--resume", "auto", "--output"]).arg(&run));
}

#[test]
fn a_key_of_a_newer_version_is_reported() {
    let (_folder, run) = copy(&fixtures().join("demo"));
    let config = run.join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[head]\n", "[head]\nlater = 1\n")).unwrap();
    let output = tests::run(trainer(1).args(["eval", "--run"]).arg(&run));
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{messages}");
    assert!(
        messages.contains("unknown key `head.later`") && messages.contains("use the version that wrote"),
        "{messages}"
    );
}
