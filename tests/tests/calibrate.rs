//! `lift-trainer eval --logits` and `lift-trainer calibrate`: the logits of any number of ranks, and figures that numpy
//! computes too.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::stripes::short_run;
use tests::{json, python, run, stderr, succeed, trainer};

fn trained(folder: &Path, settings: &[&str]) -> PathBuf {
    let path = folder.join("run");
    succeed(&mut short_run(1, &path, &[&["train.max_steps=2"], settings].concat()));
    path
}

fn logits(ranks: usize, run: &Path, file: &str, settings: &[&str]) -> PathBuf {
    let path = run.parent().unwrap().join(file);
    let mut command = trainer(ranks);
    command.args(["eval", "-q", "--set", "train.threads=1", "--run"]).arg(run).arg("--logits").arg(&path);
    for setting in settings {
        command.args(["--set", setting]);
    }
    succeed(&mut command);
    path
}

fn calibrate(run: &Path, logits: &Path) -> Command {
    let mut command = trainer(1);
    command.args(["calibrate", "--json", "--run"]).arg(run).arg("--logits").arg(logits);
    command
}

#[test]
fn logits_are_in_the_order_of_the_list_on_any_number_of_ranks_and_with_sharded_classes() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path(), &[]);
    let settings = ["eval.batch_size=5"];
    let one = logits(1, &run, "one.safetensors", &settings);
    let three = logits(3, &run, "three.safetensors", &settings);
    assert_eq!(fs::read(&one).unwrap(), fs::read(&three).unwrap());
    let sharded = logits(3, &run, "sharded.safetensors", &[settings[0], "head.placement=sharded"]);
    let floats = |path: &Path| -> Vec<f32> {
        let bytes = fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let view = file.tensor("logits").unwrap();
        assert_eq!(view.shape(), [24, 8]);
        view.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    };
    let near = floats(&one).into_iter().zip(floats(&sharded)).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(near, "sharded classes have the same logits");
    let bytes = fs::read(&one).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let names: Vec<String> = serde_json::from_str(&header.metadata().as_ref().unwrap()["names"]).unwrap();
    let list = fs::read_to_string(folder.path().join("test.txt")).unwrap();
    assert!(list.lines().map(|line| line.split_once(' ').unwrap().0).eq(names));
}

/// Every figure, for every score, with and without a target distribution.
#[test]
fn numpy_computes_the_same_figures() {
    let Some(python) = python::with_torch("numpy_computes_the_same_figures") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo");
    let mut command = trainer(1);
    command.args(["train", "-q", "--set", "train.max_steps=3", "--set", "train.threads=1", "--output"]);
    succeed(command.arg(&path));
    let logits = logits(1, &path, "logits.safetensors", &[]);
    let result = json(&path.join("result.json"));
    let counts: Vec<f64> = result["per_class"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| class["train_count"].as_f64().unwrap())
        .collect();
    let total: f64 = counts.iter().sum();
    let shares: Vec<f64> = counts.iter().map(|count| count / total).collect();
    // The demo trains with logit adjustment, so that its logits are for equal classes.
    let ratio: Vec<f64> = shares.iter().map(|share| share * counts.len() as f64).collect();
    let train = serde_json::json!([ratio, shares]).to_string();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/calibrate.py");
    for (score, target, ratio) in
        [("lac", "none", "null"), ("aps", "none", "null"), ("raps", "train", train.as_str())]
    {
        let parts = folder.path().join("parts.csv");
        let mut command = calibrate(&path, &logits);
        command.args(["--score", score, "--target", target, "--coverage", "0.8", "--seed", "3", "--parts"]);
        let ours = succeed(command.arg(&parts)).stdout;
        let ours: Value = serde_json::from_slice(&ours).unwrap();
        let mut oracle = Command::new(&python);
        oracle.arg(&script).arg(&logits).arg(&parts).args(["0.8", score, ratio]);
        let output = run(&mut oracle);
        if output.status.code() == Some(77) {
            eprintln!("skipped: numpy_computes_the_same_figures (no numpy in {})", python.display());
            return;
        }
        assert!(output.status.success(), "{}", stderr(&output));
        let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
        same(&theirs, &ours, score);
        assert_eq!(json(&path.join("result.json"))["calibration"], ours, "the result of the run has them");
    }
}

/// Every number of `expected` is in `found`, up to rounding.
fn same(expected: &Value, found: &Value, place: &str) {
    match expected {
        Value::Object(fields) => {
            for (key, value) in fields {
                same(value, &found[key], &format!("{place}.{key}"));
            }
        }
        Value::Number(number) => {
            let (a, b) = (number.as_f64().unwrap(), found.as_f64().unwrap_or(f64::NAN));
            assert!((a - b).abs() <= 1e-5 * a.abs().max(1.0), "{place}: numpy {a}, found {b}");
        }
        other => assert_eq!(other, found, "{place}"),
    }
}

#[test]
fn the_calibration_is_used_by_predict_and_foreign_logits_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = trained(folder.path(), &["train.seed=1"]);
    // Without a file, the test images are evaluated, on two ranks.
    let mut command = trainer(2);
    command.args(["calibrate", "--set", "train.threads=1", "--target", "uniform", "--run"]).arg(&path);
    let table = String::from_utf8(succeed(&mut command).stdout).unwrap();
    assert!(table.contains("calibration error after") && table.contains("mean size, by group"), "{table}");
    let temperature = json(&path.join("result.json"))["calibration"]["temperature"].as_f64().unwrap();
    let image = folder.path().join("test/3-0.jpg");
    let probabilities = |flags: &[&str]| -> Vec<f64> {
        let mut command = trainer(1);
        command
            .args(["predict", "-q", "--json", "--top", "8", "--set", "train.threads=1", "--run"])
            .arg(&path);
        let text = succeed(command.args(flags).arg(&image)).stdout;
        let line: Value = serde_json::from_slice(&text).unwrap();
        let mut guesses = line["predictions"].as_array().unwrap().clone();
        guesses.sort_by_key(|guess| guess["class"].as_u64());
        guesses.iter().map(|guess| guess["probability"].as_f64().unwrap()).collect()
    };
    // LIFT's loss is logit adjustment: its logits are for equal classes already.
    let raw = probabilities(&[]);
    let scaled: Vec<f64> = raw.iter().map(|p| p.powf(1.0 / temperature)).collect();
    let sum: f64 = scaled.iter().sum();
    for (found, expected) in probabilities(&["--calibrated"]).iter().zip(&scaled) {
        assert!((found - expected / sum).abs() < 1e-6, "{found} {}", expected / sum);
    }

    // Sets need no file but the result, on any number of ranks; a wanted coverage that so few images cannot show holds all
    // classes.
    let sets = |ranks: usize, flags: &[&str]| -> Vec<Value> {
        let mut command = trainer(ranks);
        command
            .args(["predict", "-q", "--json", "--top", "2", "--set", "train.threads=1", "--run"])
            .arg(&path);
        let text = succeed(command.args(flags).arg(folder.path().join("test"))).stdout;
        String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let found = sets(1, &["--sets"]);
    assert_eq!(sets(2, &["--sets=marginal"]), found);
    for line in &found {
        let (guesses, set) = (line["predictions"].as_array().unwrap(), line["set"].as_array().unwrap());
        assert!(
            set.len() > 2 && set[..2] == guesses[..],
            "the set begins with the most probable classes: {line}"
        );
    }
    assert!(sets(1, &["--sets=by-class"]).iter().all(|line| line["set"].as_array().unwrap().len() == 8));
    assert!(sets(1, &[]).iter().all(|line| line.get("set").is_none()));
    let mut command = trainer(1);
    command.args(["predict", "--top", "1", "--set", "train.threads=1", "--run"]).arg(&path);
    let output = succeed(command.arg("--sets").arg(&image));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("in the 90 % set") && text.contains("other classes in the set)"), "{text}");

    let other = folder.path().join("other");
    succeed(&mut short_run(1, &other, &["train.max_steps=2", "train.seed=2"]));
    let foreign = logits(1, &other, "foreign.safetensors", &[]);
    let refused = |command: &mut Command| {
        let output = run(command);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        stderr(&output)
    };
    let said = refused(&mut calibrate(&path, &foreign));
    assert!(said.contains("are not those of") && said.contains("hint: write them with"), "{said}");
    let said = refused(&mut calibrate(&path, &path.join("final.safetensors")));
    assert!(said.contains("is not a file of logits: it has no `names`"), "{said}");
    let training = logits(1, &path, "training.safetensors", &["eval.split=train"]);
    let said = refused(&mut calibrate(&path, &training));
    assert!(said.contains("are of training images"), "{said}");
    let own = logits(1, &path, "own.safetensors", &[]);
    let said = refused(calibrate(&path, &own).args(["--source", "train"]));
    assert!(said.contains("--source train has no effect without --target"), "{said}");
    let said = refused(calibrate(&path, &own).args(["--target", "absent.txt"]));
    assert!(said.contains("cannot read the class distribution `absent.txt`"), "{said}");
    // A given temperature is kept; a calibration of an older version has no thresholds.
    let kept: Value =
        serde_json::from_slice(&succeed(calibrate(&path, &own).args(["--temperature", "1"])).stdout).unwrap();
    assert_eq!((&kept["temperature"], &kept["parts"]["temperature"]), (&Value::from(1.0), &Value::from(0)));
    assert_eq!(kept["before"], kept["after"]);
    let mut result = json(&path.join("result.json"));
    result["calibration"]["thresholds"].take();
    fs::write(path.join("result.json"), result.to_string()).unwrap();
    let predict =
        |flags: &[&str]| refused(trainer(1).args(["predict", "--run"]).arg(&path).args(flags).arg(&image));
    let said = predict(&["--sets"]);
    let expected = format!(
        "error: `{run}`: the recorded calibration has no thresholds for sets of its 8 classes\n\
         hint: run `lift-trainer calibrate --run {run}` again\n",
        run = path.display()
    );
    assert!(said.ends_with(&expected), "{said}");
    let said = predict(&["--sets", "--format", "inat"]);
    assert_eq!(said, "error: --sets has no effect with --format inat\nhint: leave one of them out\n");
    let said = refused(calibrate(&path, &own).args(["--fit-share", "0.01"]));
    assert!(said.contains("24 images are too few"), "{said}");
}
