//! Metrics for TensorBoard, CSV and MLflow: each is read back by its own program.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::stripes::short_run;
use tests::{binary, python, run, stderr, succeed};

const SETTINGS: [&str; 4] =
    ["train.epochs=2", "train.batch_size=16", "eval.every_epochs=1", "train.tensorboard=true"];

/// Tag and step of each figure with its value, in single precision.
type Figures = BTreeMap<(String, u64), f32>;

/// The figures in the metrics of a run.
fn figures(run: &Path) -> Figures {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut figures = Figures::new();
    for line in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let group = match line["kind"].as_str().unwrap() {
            "step" => "train",
            "epoch" => "epoch",
            _ => line["split"].as_str().unwrap(),
        };
        for (name, value) in
            line.as_object().unwrap().iter().filter(|(name, _)| !["epoch", "step"].contains(&name.as_str()))
        {
            if let Some(value) = value.as_f64() {
                figures.insert((format!("{group}/{name}"), line["step"].as_u64().unwrap()), value as f32);
            }
        }
    }
    figures
}

/// What the reader of a tracker finds.
fn read_back(python: &Path, program: &str, place: &Path) -> (Figures, Vec<String>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/trackers_read.py");
    let output = succeed(Command::new(python).arg(script).arg(program).arg(place));
    let (mut figures, mut others) = (Figures::new(), Vec::new());
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["run" | "param", ..] => others.push(line.to_owned()),
            [tag, step, value] => {
                figures.insert((tag.to_owned(), step.parse().unwrap()), value.parse::<f64>().unwrap() as f32);
            }
            _ => panic!("{line}"),
        }
    }
    (figures, others)
}

fn export(run: &Path, to: &str, output: &Path) -> Command {
    let mut command = Command::new(binary("lift"));
    command.arg("log-export").arg(run).args(["--to", to, "--output"]).arg(output);
    command
}

fn trained(folder: &Path) -> PathBuf {
    let path = folder.join("run");
    succeed(&mut short_run(2, &path, &SETTINGS));
    path
}

fn event_files(run: &Path) -> usize {
    let entries = fs::read_dir(run).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("events.out.tfevents.")).count()
}

#[test]
fn tensorboard_reads_the_events_of_a_run_and_of_an_export() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    assert_eq!(event_files(&run), 1);
    let exported = folder.path().join("tensorboard");
    succeed(&mut export(&run, "tensorboard", &exported));
    let test = "tensorboard_reads_the_events_of_a_run_and_of_an_export";
    let Some(python) = python::with(test, "tensorboard", "its part with TensorBoard") else { return };
    let expected = figures(&run);
    assert!(expected.len() > 40, "{expected:?}");
    for place in [&run, &exported] {
        assert_eq!(read_back(&python, "tensorboard", place).0, expected, "{}", place.display());
    }
}

#[test]
fn a_resumed_run_replaces_the_events_after_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let settings = [&SETTINGS[..], &["checkpoint.every_steps=2", "checkpoint.keep=9"]].concat();
    succeed(&mut short_run(1, &path, &settings));
    for newer in ["00000004", "00000006"] {
        let checkpoint = path.join("checkpoints").join(newer);
        if checkpoint.exists() {
            fs::remove_dir_all(checkpoint).unwrap();
        }
    }
    fs::remove_file(path.join("result.json")).unwrap();
    let mut resumed = short_run(1, &path, &settings);
    succeed(resumed.args(["--resume", "auto"]));
    assert_eq!(event_files(&path), 2);
    let test = "a_resumed_run_replaces_the_events_after_its_checkpoint";
    let Some(python) = python::with(test, "tensorboard", "its part with TensorBoard") else { return };
    assert_eq!(read_back(&python, "tensorboard", &path).0, figures(&path));
}

#[test]
fn mlflow_reads_an_export() {
    let folder = tempfile::tempdir().unwrap();
    let path = trained(folder.path());
    let store = folder.path().join("mlruns");
    succeed(&mut export(&path, "mlflow", &store));
    let again = run(&mut export(&path, "mlflow", &store));
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("exists already\nhint: remove it"), "{}", stderr(&again));
    let Some(python) = python::with("mlflow_reads_an_export", "mlflow", "its part with MLflow") else {
        return;
    };
    let (found, others) = read_back(&python, "mlflow", &store);
    assert_eq!(found, figures(&path));
    assert!(others.contains(&"run stripes_demo FINISHED".to_owned()), "{others:?}");
    assert!(others.contains(&"param train.batch_size 16".to_owned()), "{others:?}");
}

#[test]
fn csv_has_a_row_for_each_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = trained(folder.path());
    let output = folder.path().join("csv");
    succeed(&mut export(&path, "csv", &output));
    let rows = |name: &str| fs::read_to_string(output.join(name)).unwrap().lines().count() - 1;
    assert_eq!([rows("steps.csv"), rows("epochs.csv"), rows("evaluations.csv")], [6, 2, 2]);
    let steps = fs::read_to_string(output.join("steps.csv")).unwrap();
    assert!(steps.starts_with("step,epoch,bytes,data_wait,finite,"), "{steps}");
}
