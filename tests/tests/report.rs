//! `lift report`: from a run of the trainer to a page that a browser shows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::stripes::short_run;
use tests::{binary, json, python, run, stderr, succeed, trainer};

/// A class name that a browser, a terminal or LaTeX would interpret.
const HOSTILE: &str = "<img src=x onerror=alert(1)> \"q\" \u{1b}[31m \u{202e}x $\\input{a}$ </script>";
const CLASSES: usize = 8142;

fn report(runs: &[&Path], options: &[&str]) -> Command {
    let mut command = Command::new(binary("lift"));
    command.arg("report").args(options).args(runs);
    command
}

fn printed(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

/// A finished run with pictures of its mistakes, whose first class has a hostile name in its result.
fn trained(folder: &Path, ranks: usize, settings: &[&str]) -> PathBuf {
    let path = folder.join(format!("run-{ranks}"));
    let mut all = vec!["train.epochs=3", "eval.every_epochs=1", "eval.thumbnails=3"];
    all.extend(settings);
    succeed(&mut short_run(ranks, &path, &all));
    let mut result = json(&path.join("result.json"));
    result["per_class"][0]["name"] = HOSTILE.into();
    fs::write(path.join("result.json"), result.to_string()).unwrap();
    path
}

#[test]
fn what_an_evaluation_counts_is_equal_on_any_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["train.determinism=any_world", "head.placement=replicated"];
    let (one, two) = (trained(folder.path(), 1, &settings), trained(folder.path(), 2, &settings));
    let record = json(&one.join("evaluation.json"));
    assert_eq!(record, json(&two.join("evaluation.json")));

    let result = json(&one.join("result.json"));
    let wrong = result["total"].as_u64().unwrap() - result["correct"].as_u64().unwrap();
    let confusion = record["confusion"].as_array().unwrap();
    assert_eq!(confusion.iter().map(|entry| entry[2].as_u64().unwrap()).sum::<u64>(), wrong);
    let bins = || {
        record["reliability"].as_array().unwrap().iter().flat_map(|group| group["bins"].as_array().unwrap())
    };
    let sum = |what: &str| bins().map(|bin| bin[what].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("images"), sum("correct")), (24, result["correct"].as_u64().unwrap()));

    // With sharded classes, the confidences of the same tensors are those of the full rows, up to rounding.
    let sharded = folder.path().join("sharded");
    let mut command = trainer(2);
    command.args(["eval", "-m", "demo", "--set", "head.placement=sharded", "--set", "train.threads=1", "-d"]);
    command.arg(tests::stripes::data_beside(&one)).arg("--weights").arg(one.join("final.safetensors"));
    succeed(command.arg("--output").arg(&sharded));
    let of_shards = json(&sharded.join("evaluation.json"));
    assert_eq!(of_shards["confusion"], record["confusion"]);
    let confidence = |record: &Value| record["mistakes"][0]["confidence"].as_f64().unwrap();
    assert!((confidence(&of_shards) - confidence(&record)).abs() <= 10.0, "{of_shards:#}");
}

/// A run folder as a run on as many classes as iNaturalist 2018 leaves it.
fn large(folder: &Path) -> PathBuf {
    let path = folder.join("large");
    fs::create_dir(&path).unwrap();
    let classes: Vec<Value> = (0..CLASSES)
        .map(|label| {
            let (train, correct) = (2 + 998 * (CLASSES - label) / CLASSES, label % 4);
            json!({"name": format!("Genus species number {label}"), "train_count": train, "test_count": 3, "correct": correct,
                "accuracy": 100.0 * correct as f64 / 3.0})
        })
        .collect();
    let correct: usize = (0..CLASSES).map(|label| label % 4).sum();
    let accuracy = 100.0 * correct as f64 / (3 * CLASSES) as f64;
    let result = json!({"data": "inat2018", "model": "m", "method": "lift", "seed": 0, "world_size": 8, "accuracy": accuracy,
        "many": 50.0, "medium": 50.0, "few": 50.0, "mean_class_accuracy": accuracy, "correct": correct, "total": 3 * CLASSES,
        "trainable_parameters": 1, "images_per_second": 1.0, "seconds": 1.0, "per_class": classes});
    fs::write(path.join("result.json"), result.to_string()).unwrap();
    let wrong = (0..CLASSES).filter(|label| label % 4 < 3);
    let confusion: Vec<Value> =
        wrong.map(|label| json!([label, (label + 1) % CLASSES, 3 - label % 4])).collect();
    let record = json!({"format": 1, "classes": CLASSES, "images": 3 * CLASSES, "confusion": confusion, "reliability": [],
        "mistakes": []});
    fs::write(path.join("evaluation.json"), record.to_string()).unwrap();
    path
}

#[test]
fn a_browser_shows_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let (small, large) = (trained(folder.path(), 1, &[]), large(folder.path()));
    let pages = [printed(&mut report(&[&small], &["--thumbnails"])), printed(&mut report(&[&large], &[]))];
    let pages = pages.each_ref().map(|page| PathBuf::from(page.trim_end()));
    assert_eq!(pages[0], small.join("report.html"));
    let sizes = pages.each_ref().map(|page| fs::metadata(page).unwrap().len());
    assert!(sizes[0] < 1 << 20 && sizes[1] < 5 << 20, "{sizes:?}");
    let page = fs::read_to_string(&pages[0]).unwrap();
    assert_eq!(page.matches("data:image/png;base64,").count(), 3);
    assert!(!page.contains("<img src=x") && !page.contains('\u{1b}') && !page.contains('\u{202e}'));

    let test = "a_browser_shows_the_page";
    let Some(python) = python::with(test, "playwright, axe_playwright_python", "its part with a browser")
    else {
        return;
    };
    if Command::new("chromium").arg("--version").output().is_err() {
        eprintln!("skipped: {test}, its part with a browser (no chromium)");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/report_page.py");
    let seen = printed(Command::new(python).arg(script).args(&pages));
    let seconds: f64 = seen.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
    assert!(seconds < 2.0 || cfg!(debug_assertions), "{seen}");
}

#[test]
fn several_runs_become_tables_of_text() {
    let folder = tempfile::tempdir().unwrap();
    let first = trained(folder.path(), 1, &[]);
    let second = folder.path().join("other");
    succeed(&mut short_run(1, &second, &["train.epochs=1"]));
    let text = printed(&mut report(&[&first, &second, &first], &["--format", "markdown"]));
    assert_eq!(text.matches("| lift |").count(), 2, "the same folder counts once: {text}");
    assert!(text.contains("**Paired differences to lift, ") && text.contains("train.epochs=1"), "{text}");
    let latex = printed(&mut report(&[&first], &["--format", "latex"]));
    assert!(latex.contains("\\textbackslash{}input\\{a\\}") && latex.contains("\\bottomrule"), "{latex}");
    assert!(!latex.contains('\u{1b}') && !latex.contains('\u{202e}'));
    let page = folder.path().join("all.html");
    printed(&mut report(&[&first, &second], &["--output", page.to_str().unwrap()]));
    assert!(fs::read_to_string(page).unwrap().contains("2 runs on stripes"));
}

#[test]
fn runs_that_are_not_complete_are_reported_with_what_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let path = trained(folder.path(), 1, &[]);
    fs::remove_file(path.join("evaluation.json")).unwrap();
    let output = succeed(&mut report(&[&path], &["--output", "-"]));
    let shown = path.display();
    assert_eq!(
        stderr(&output),
        format!(
            "warning: `{shown}` has no `evaluation.json`, so the report has neither confusion nor calibration\nhint: evaluate \
             the run with this version: lift-trainer eval --run {shown} --output DIR\n"
        )
    );
    fs::remove_file(path.join("result.json")).unwrap();
    let output = succeed(&mut report(&[&path], &["--output", "-"]));
    assert!(
        stderr(&output).contains("is not finished (done, step 3); the report has its curves only"),
        "{}",
        stderr(&output)
    );

    let missing = run(&mut report(&[&folder.path().join("gone")], &[]));
    assert_eq!(missing.status.code(), Some(2), "{}", stderr(&missing));
    assert!(
        stderr(&missing).ends_with("gone` is not a folder; expected the folder of a run\n"),
        "{}",
        stderr(&missing)
    );
}
