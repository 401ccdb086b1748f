//! The program `scaling`, started as a process.

use std::process::Command;

#[test]
fn the_report_states_its_assumptions() {
    let output = Command::new(env!("CARGO_BIN_EXE_scaling")).arg("--json").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        report.pointer("/assumptions/network_bandwidth").and_then(serde_json::Value::as_f64).unwrap() > 0.0
    );
    assert!(!report["predicted"].as_array().unwrap().is_empty());
}

#[test]
fn a_missing_file_is_wrong_input() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_scaling")).args(["--measured", "none.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("error: cannot read the measured constants `none.toml`: "), "{stderr}");
}
