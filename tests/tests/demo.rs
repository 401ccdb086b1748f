//! The embedded demo shows what it is for: the shift makes zero-shot poor, and light tuning repairs it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use tests::{json, succeed, trainer};

/// Accuracy of a method in percent, with some settings.
fn accuracy(output: &Path, method: &str, settings: &[&str]) -> f64 {
    let mut command = trainer(1);
    command.args(["demo", "-q", "--methods", method, "--set", "train.threads=1", "--output"]).arg(output);
    for setting in settings {
        command.args(["--set", setting]);
    }
    succeed(&mut command);
    json(&output.join(method).join("result.json"))["accuracy"].as_f64().unwrap()
}

#[test]
fn a_tenth_of_the_training_repairs_half_of_the_domain_shift() {
    let folder = tempfile::tempdir().unwrap();
    let zero_shot = accuracy(folder.path(), "zero_shot", &[]);
    assert!((8.0..30.0).contains(&zero_shot), "zero-shot {zero_shot}; chance is 2.1");
    let lift = accuracy(folder.path(), "lift", &["train.max_steps=90"]);
    assert!(lift > zero_shot + 15.0, "zero-shot {zero_shot}, LIFT {lift}");
}

/// The first version's pictures and model remain: the same figure as in its table.
#[test]
fn the_first_demo_is_still_there() {
    let folder = tempfile::tempdir().unwrap();
    let first = ["data.demo_style=cluttered", "model.embedded=patch4"];
    let zero_shot = accuracy(folder.path(), "zero_shot", &first);
    assert!((72.4..73.0).contains(&zero_shot), "{zero_shot}; 872 of 1200 are right");
}
