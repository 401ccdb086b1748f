//! `lift-trainer export`: other libraries read the exported models and give the same logits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tests::stripes::StripedDataSet;
use tests::{python, run, stderr, succeed, trainer};

/// Largest difference of a logit between two libraries.
const MOST: f64 = 1e-4;
/// Formats that hold only the weights of the backbone.
const FOLDED: [&str; 3] = ["timm", "hf-clip", "open-clip"];

struct Place {
    folder: tempfile::TempDir,
    data: PathBuf,
}

impl Place {
    /// Real images, more than 100 of them for tests.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let set = StripedDataSet::write(&data, [24, 16, 8, 8, 8, 8, 8, 8], 13).unwrap();
        fs::write(data.join("stripes.toml"), set.preset()).unwrap();
        Self { folder, data }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run of some steps, large enough that every tuner does something; its logits are written too.
    fn train(&self, name: &str, method: &str, settings: &[&str]) -> PathBuf {
        let path = self.path(name);
        let mut command = trainer(1);
        command.args(["train", "-q", "-m", "demo", "--set", "train.threads=1", "--method", method, "-d"]);
        command.arg(self.data.join("stripes.toml"));
        let trained = ["train.max_steps=4", "train.batch_size=16", "train.learning_rate=0.1"];
        let settings = if method == "zero_shot" { settings.to_vec() } else { [&trained, settings].concat() };
        for setting in settings {
            command.args(["--set", setting]);
        }
        succeed(command.arg("--output").arg(&path));
        let mut command = trainer(1);
        command.args(["eval", "-q", "--set", "train.threads=1", "--run"]).arg(&path);
        succeed(command.arg("--logits").arg(self.logits(name)));
        path
    }

    fn logits(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.logits.safetensors"))
    }

    fn exported(&self, name: &str, format: &str) -> PathBuf {
        self.path(&format!("{name}.{format}"))
    }

    fn export(&self, name: &str, format: &str) -> Command {
        let mut command = trainer(1);
        command.args(["export", "-q", "--format", format, "--run"]).arg(self.path(name));
        command.arg("--output").arg(self.exported(name, format));
        command
    }

    /// A case for `check.py`.
    fn case(&self, name: &str, format: &str) -> Value {
        succeed(&mut self.export(name, format));
        json!({
            "format": format,
            "model": self.exported(name, format),
            "logits": self.logits(name),
            "view": self.exported(name, "safetensors"),
            "root": self.data,
            "base": self.exported("plain", "hf-clip"),
        })
    }
}

/// Computes every case in its library; a library that is not installed is said aloud.
fn check(test: &str, python: &Path, cases: &[Value]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/check.py");
    let mut command = Command::new(python);
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("HF_HUB_OFFLINE", "1");
    let mut child = command.spawn().unwrap();
    let lines = cases.iter().fold(String::new(), |mut lines, case| {
        let _ = writeln!(lines, "{case}");
        lines
    });
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let found: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(found.len(), cases.len());
    for (found, case) in found.iter().zip(cases) {
        if let Some(library) = found.get("missing") {
            eprintln!("skipped: {test}, format {} (no {library} in {})", case["format"], python.display());
            continue;
        }
        assert!(found["difference"].as_f64().unwrap() < MOST, "{case}\n{found}");
        assert_eq!(found["images"], 100);
    }
}

#[test]
fn other_libraries_give_the_same_logits() {
    let test = "other_libraries_give_the_same_logits";
    let Some(python) = python::with_torch(test) else { return };
    let place = Place::new();
    place.train("lift", "lift", &[]);
    place.train("plain", "zero_shot", &[]);
    place.train("lora", "lora", &[r#"tuner.kinds=["lora", "lora_mlp"]"#, "tuner.adapter_dim=4"]);
    let mut cases = vec![place.case("lift", "safetensors"), place.case("lift", "onnx")];
    cases.push(place.case("plain", "hf-clip"));
    succeed(&mut place.export("plain", "safetensors"));
    succeed(&mut place.export("lora", "safetensors"));
    cases.extend(["timm", "hf-clip", "open-clip", "peft", "onnx"].map(|format| place.case("lora", format)));
    check(test, &python, &cases);
}

/// Every tuner and every head in every format that can hold it.
#[test]
#[ignore = "long; trains fourteen models and loads fifty"]
fn every_tuner_and_every_head_is_exported() {
    let test = "every_tuner_and_every_head_is_exported";
    let Some(python) = python::with_torch(test) else { return };
    let place = Place::new();
    place.train("plain", "zero_shot", &[]);
    succeed(&mut place.export("plain", "hf-clip"));
    let modules = ["lift", "adapter", "vpt_deep", "vpt_shallow"];
    let folded =
        ["lora", "ssf", "ia3", "masked", "full", "bias", "layer_norm", "head_linear", "head_l2_norm"];
    let mut cases = Vec::new();
    for method in modules.into_iter().chain(folded) {
        // Other heads have the modules of LIFT.
        let tuner: &[&str] = if method.starts_with("head_") { &[r#"tuner.kinds=["ssf_ln"]"#] } else { &[] };
        place.train(method, method, tuner);
        cases.extend(["safetensors", "onnx"].map(|format| place.case(method, format)));
        if !modules.contains(&method) {
            cases.extend(FOLDED.map(|format| place.case(method, format)));
        }
    }
    place.train("normed", "lift", &["head.kind=layer_norm", r#"tuner.kinds=["lora", "ssf_attn", "ia3"]"#]);
    cases.extend(["safetensors", "onnx", "timm"].map(|format| place.case("normed", format)));
    place.train("partial", "lora", &["tuner.partial=1"]);
    cases.extend(["safetensors", "peft"].map(|format| place.case("partial", format)));
    cases.push(place.case("ia3", "peft"));
    check(test, &python, &cases);
}

/// A format without a place for a tuner names it, and the formats that have one.
#[test]
fn a_format_that_cannot_hold_the_tuner_is_refused() {
    let place = Place::new();
    place.train("lift", "lift", &[]);
    for format in FOLDED {
        let output = run(&mut place.export("lift", format));
        assert_eq!(output.status.code(), Some(2));
        let expected = format!(
            "error: --format {format} cannot hold the run's adaptformer in block 0; it holds only the weights of the backbone\n\
             hint: use --format safetensors or --format onnx, which can hold it\n"
        );
        assert_eq!(stderr(&output), expected);
        assert!(!place.exported("lift", format).exists());
    }
    let output = run(&mut place.export("lift", "peft"));
    let expected = "error: --format peft needs a run with lora, lora_mlp or both, or with ia3 alone, found the tuners \
                    adaptformer_list\nhint: ";
    assert!(stderr(&output).starts_with(expected), "{}", stderr(&output));

    // A folder in use is not overwritten, and a file is no folder.
    let target = place.exported("lift", "onnx");
    fs::write(&target, "of somebody").unwrap();
    let output = run(&mut place.export("lift", "onnx"));
    assert!(stderr(&output).contains("replace it with --force"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&target).unwrap(), "of somebody");
    succeed(place.export("lift", "onnx").arg("--force"));
    let output = run(trainer(1)
        .args(["export", "--format", "timm", "--run"])
        .arg(place.path("lift"))
        .arg("--output")
        .arg(&target));
    assert!(stderr(&output).contains("it is a file, and the format needs a folder"), "{}", stderr(&output));

    // A run that has not finished, and one of another backbone.
    fs::remove_file(place.path("lift/final.safetensors")).unwrap();
    let output = run(place.export("lift", "onnx").arg("--force"));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("the training of the run has not finished"), "{}", stderr(&output));
}
