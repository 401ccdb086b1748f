//! `lift gpu-check` on a CPU: a table, a JSON file and an exit code, whatever fails.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::launched::{processes_of, signal, wait_for};
use tests::{binary, json, python, run, stderr};

/// The command with its Python, on the CPU also where there is a GPU.
fn gpu_check(python: &Path, output: &Path, parts: &[&str]) -> Command {
    let mut command = Command::new(binary("lift"));
    command.env("PYTHON", python).env("NO_COLOR", "1").env_remove("LIFT_TRAINER").stdin(Stdio::null());
    command.args(["gpu-check", "--device", "cpu", "--output"]).arg(output).arg("--only").args(parts);
    command
}

fn results(report: &Value) -> Vec<(&str, &str)> {
    let parts = report["parts"].as_array().unwrap();
    parts.iter().map(|part| (part["name"].as_str().unwrap(), part["result"].as_str().unwrap())).collect()
}

fn summary<'a>(report: &'a Value, name: &str) -> &'a str {
    let parts = report["parts"].as_array().unwrap();
    parts.iter().find(|part| part["name"] == name).unwrap()["summary"].as_str().unwrap()
}

#[test]
fn parts_that_pass_are_told_in_a_table_and_in_json() {
    let Some(python) = python::with_torch("parts_that_pass_are_told_in_a_table_and_in_json") else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("check");
    let parts = ["machine", "reference", "nccl", "out-of-memory", "memory", "speed"];
    let ended = run(&mut gpu_check(&python, &output, &parts));
    let table = String::from_utf8(ended.stdout.clone()).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{table}{}", stderr(&ended));
    let report = json(&output.join("gpu-check.json"));
    let found = results(&report);
    for name in ["machine", "reference", "out-of-memory", "memory", "speed-small-16"] {
        assert!(found.contains(&(name, "passed")), "{name}: {found:?}");
    }
    for name in ["nccl", "speed-b16-128", "speed-l14-256"] {
        assert!(found.contains(&(name, "skipped")), "{name}: {found:?}");
        assert_eq!(summary(&report, name), "no GPU");
    }
    assert_eq!((&report["device"], &report["passed"]), (&"cpu".into(), &true.into()));
    assert!(summary(&report, "machine").starts_with("CPU only ("), "{report:#}");
    assert!(table.contains("no GPU was checked") && table.contains("PyTorch eager"), "{table}");
    assert_eq!(fs::read_to_string(output.join("table.txt")).unwrap(), table);
    assert!(output.join("logs/reference.log").exists() && !output.join("work").exists());
}

/// A trainer that fails in the runs of one part.
fn trainer_that_fails_with(folder: &Path, setting: &str) -> std::path::PathBuf {
    let (path, real) = (folder.join("trainer"), binary("lift-trainer"));
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *{setting}*) echo 'error: as planned' >&2; exit 1;; esac\nexec '{}' \"$@\"\n",
        real.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_part_that_fails_does_not_stop_the_others() {
    let Some(python) = python::with_torch("a_part_that_fails_does_not_stop_the_others") else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("check");
    let trainer = trainer_that_fails_with(folder.path(), "train.determinism=same_world");
    let parts = ["same-world", "evaluation", "stop-and-resume"];
    let mut command = gpu_check(&python, &output, &parts);
    let ended = run(command.arg("--json").env("LIFT_TRAINER", trainer));
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", stderr(&ended));
    let expected = [("same-world", "failed"), ("evaluation", "passed"), ("stop-and-resume", "failed")];
    assert_eq!(results(&report), expected, "{report:#}");
    let why = summary(&report, "same-world");
    assert_eq!(why, "`trainer train` ended with code 1: error: as planned");
    assert_eq!(report["passed"], false);
    assert_eq!(report, json(&output.join("gpu-check.json")));
    assert!(stderr(&ended).contains("evaluation: passed ("), "{}", stderr(&ended));
}

#[test]
fn parts_without_time_are_skipped_and_nothing_checked_is_no_success() {
    let Some(python) = python::with_torch("parts_without_time_are_skipped_and_nothing_checked_is_no_success")
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("check");
    let ended = run(gpu_check(&python, &output, &["same-world"]).args(["--minutes", "0.01"]));
    assert_eq!(ended.status.code(), Some(1), "{}", stderr(&ended));
    let report = json(&output.join("gpu-check.json"));
    assert_eq!(results(&report), [("same-world", "skipped")]);
    assert!(summary(&report, "same-world").contains("raise --minutes"), "{report:#}");
}

#[test]
fn a_check_that_is_ended_leaves_what_it_has_found() {
    let Some(python) = python::with_torch("a_check_that_is_ended_leaves_what_it_has_found") else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("check");
    let mut command = gpu_check(&python, &output, &["machine", "same-world"]);
    let mut check = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = output.join("logs/same-world.log");
    wait_for("the second part", Duration::from_mins(2), || log.exists());
    signal("TERM", &check.id().to_string());
    assert_eq!(check.wait().unwrap().code(), Some(130));
    wait_for("the end of its processes", Duration::from_secs(10), || processes_of(&output).is_empty());
    let report = json(&output.join("gpu-check.json"));
    assert_eq!(results(&report), [("machine", "passed")]);
    assert_eq!((&report["finished"], &report["passed"]), (&false.into(), &false.into()));
    assert!(!output.join("work").exists());
}

#[test]
fn wrong_input_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("check");
    let refused = run(&mut gpu_check(Path::new("/no/such/python"), &output, &["machine"]));
    assert_eq!(refused.status.code(), Some(2));
    let said = "error: expected a Python with torch 2.11, found `/no/such/python` (No such file or directory (os error 2))\n\
                hint: install it with `pip install torch==2.11.*`, or name a Python that has it, e.g. \
                PYTHON=/opt/venv/bin/python\n";
    assert_eq!(stderr(&refused), said);
    let Some(python) = python::with_torch("wrong_input_is_refused") else { return };
    let refused = run(&mut gpu_check(&python, &output, &["sped"]));
    assert_eq!(refused.status.code(), Some(2));
    let said = stderr(&refused);
    assert!(said.starts_with("error: no part is named `sped`; expected machine, losses-fp32, "), "{said}");
}
