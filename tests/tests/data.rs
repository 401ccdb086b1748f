//! `check`, `order` and `train` report findings about the data, and refuse other files with the same names.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use tests::{binary, mpirun, run, stderr, succeed, trainer};

/// A grey image of 8 x 8 pixels.
fn picture(level: u8) -> Vec<u8> {
    [&b"P5 8 8 255 "[..], &[level; 64]].concat()
}

/// Lists of two classes with ids in their names, and a test image that is also a training image.
fn lists(root: &Path) {
    for (name, level) in [("a", 10), ("b", 90), ("c", 170), ("d", 250)] {
        std::fs::write(root.join(format!("{name}.pgm")), picture(level)).unwrap();
    }
    std::fs::write(root.join("train.txt"), "a.pgm 0\nb.pgm 1\nc.pgm 0\n").unwrap();
    std::fs::write(root.join("test.txt"), "d.pgm 0\n./b.pgm 1\n").unwrap();
    std::fs::write(root.join("names.txt"), "n01440764 red circle\nn01484850 blue square\n").unwrap();
    let lists = "train_list = \"train.txt\"\ntest_list = \"test.txt\"\nclass_names = \"names.txt\"\n";
    // The root is the current folder of each process.
    std::fs::write(
        root.join("own.toml"),
        format!("[data]\nlayout = \"lists\"\nroot = \"/proc/self/cwd\"\n{lists}"),
    )
    .unwrap();
}

fn with(root: &Path, arguments: &[&str]) -> Command {
    let mut command = trainer(1);
    command.args(arguments).args(["-d", "own.toml", "-m", "demo"]).current_dir(root);
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const NOTE: &str = "the first words are WordNet ids, and are left out";
const WARNING: &str = "warning: 1 test picture of 2 also trained on, first `./b.pgm`";

#[test]
fn check_shows_prompts_and_findings() {
    let root = tempfile::tempdir().unwrap();
    lists(root.path());
    let output = succeed(&mut with(root.path(), &["check"]));
    let (out, messages) = (stdout(&output), stderr(&output));
    assert!(out.contains("a photo of a red circle.") && out.contains("a photo of a blue square."), "{out}");
    assert_eq!((messages.matches(NOTE).count(), messages.matches(WARNING).count()), (1, 1), "{messages}");

    let output = succeed(&mut with(root.path(), &["check", "--json"]));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["prompts"], serde_json::json!(["a photo of a red circle.", "a photo of a blue square."]));
    assert!(format!("warning: {}", json["warnings"][0].as_str().unwrap()).starts_with(WARNING), "{json}");
    assert!(json["notes"][0].as_str().unwrap().contains(NOTE), "{json}");

    let output = succeed(&mut with(root.path(), &["check", "-q"]));
    let messages = stderr(&output);
    assert_eq!(stdout(&output), "");
    assert!(!messages.contains(NOTE) && messages.contains(WARNING), "{messages}");
}

#[test]
fn order_prints_lines_and_is_quiet_on_request() {
    let root = tempfile::tempdir().unwrap();
    lists(root.path());
    let order = |more: &[&str]| succeed(&mut with(root.path(), &[&["order"], more].concat()));
    let (plain, json, quiet) = (order(&[]), order(&["--json"]), order(&["-q"]));
    assert_eq!((stdout(&json), stdout(&quiet)), (stdout(&plain), stdout(&plain)));
    let lines: Vec<Value> = stdout(&plain).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(stderr(&plain).contains(NOTE) && stderr(&plain).contains(WARNING));
    assert!(!stderr(&quiet).contains(NOTE) && stderr(&quiet).contains(WARNING));
}

/// Only rank 0 reports. A resume with other files of the same names is refused, and the error names one of them.
#[test]
fn train_reports_once_and_other_files_are_refused() {
    let root = tempfile::tempdir().unwrap();
    lists(root.path());
    let train = || {
        let mut command = trainer(2);
        let set = ["train.batch_size=2", "train.epochs=2", "train.max_steps=1", "checkpoint.every_steps=1"];
        command.args(["train", "-d", "own.toml", "-m", "demo", "--output", "run"]).current_dir(root.path());
        command.args(set.iter().flat_map(|set| ["--set", set]));
        command
    };
    let messages = stderr(&succeed(&mut train()));
    assert_eq!((messages.matches(NOTE).count(), messages.matches(WARNING).count()), (1, 1), "{messages}");

    std::fs::write(root.path().join("c.pgm"), picture(171)).unwrap();
    let mut again = train();
    let output = run(again.args([
        "--set",
        "train.max_steps=2",
        "--resume",
        "auto",
        "--allow-changed",
        "train.max_steps",
    ]));
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{messages}");
    assert!(messages.contains("have another size or content, the first is `c.pgm`"), "{messages}");
}

#[test]
fn ranks_with_other_files_are_refused() {
    let hosts = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for host in &hosts {
        lists(host.path());
    }
    std::fs::write(hosts[1].path().join("d.pgm"), picture(251)).unwrap();
    let mut command = mpirun(2);
    let script = "cd \"$1$(test \"$OMPI_COMM_WORLD_RANK\" = 0 || echo /../$2)\" && shift 2 && exec \"$@\"";
    let name = hosts[1].path().file_name().unwrap();
    command.args(["bash", "-c", script, "bash"]).arg(hosts[0].path()).arg(name).arg(binary("lift-trainer"));
    // Both ranks read the same configuration file.
    command
        .args(["train", "-m", "demo", "--set", "train.epochs=0", "-d"])
        .arg(hosts[0].path().join("own.toml"));
    let output = run(command.arg("--output").arg(hosts[0].path().join("run")));
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{messages}");
    assert!(messages.contains("the first is `d.pgm`"), "{messages}");
}
