//! Runs that are the same to the bit: on any number of ranks, on the same number again, and after a resume.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use tests::{json, losses, metrics, run, stderr, steps_done, succeed, trainer, within};

/// A short run of the embedded demo.
fn demo(ranks: usize, output: &Path, settings: &[&str]) -> Command {
    let mut command = trainer(ranks);
    command.args(["train", "-q", "-d", "demo", "-m", "demo", "--set", "train.threads=1"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.arg("--output").arg(output);
    command
}

fn final_bytes(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("final.safetensors")).unwrap()
}

/// A batch whose epoch ends, within fifty steps, in a batch of fewer samples than there are ranks.
fn batch_with_a_rest(folder: &Path) -> String {
    let probe = folder.join("probe");
    succeed(demo(1, &probe, &["train.max_steps=1"]).args(["--method", "classifier"]));
    let classes = json(&probe.join("result.json"))["per_class"].as_array().unwrap().clone();
    let total: u64 = classes.iter().map(|class| class["train_count"].as_u64().unwrap()).sum();
    let batch = (70..400).find(|batch| (1..8).contains(&(total % batch)) && total / batch < 45).unwrap();
    format!("train.batch_size={batch}")
}

#[test]
fn law_1_any_world_gives_the_same_bits_on_1_2_4_and_8_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let batch = batch_with_a_rest(folder.path());
    let settings = ["train.determinism=any_world", "train.max_steps=50", &batch];
    let path = |ranks: usize| folder.path().join(ranks.to_string());
    for ranks in [1, 2, 4, 8] {
        succeed(&mut demo(ranks, &path(ranks), &settings));
    }
    let samples = metrics(&path(8), "step");
    assert_eq!(samples.len(), 50);
    assert!(samples.iter().any(|row| row["samples"].as_u64().unwrap() < 8), "a batch smaller than the world");
    for ranks in [2, 4, 8] {
        assert_eq!(losses(&path(ranks)), losses(&path(1)), "losses on {ranks} ranks");
        assert!(final_bytes(&path(ranks)) == final_bytes(&path(1)), "weights on {ranks} ranks");
    }
    assert_ne!(losses(&path(1))[0], losses(&path(1))[49]);
}

#[test]
fn law_1_any_world_holds_for_class_means_and_sharded_backbones_too() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["train.determinism=any_world", "train.max_steps=6", "head.init=class_mean"];
    let (one, three) = (folder.path().join("one"), folder.path().join("three"));
    succeed(&mut demo(1, &one, &settings));
    let sharded = [&settings[..], &["backbone.placement=sharded"]].concat();
    succeed(&mut demo(3, &three, &sharded));
    assert!(final_bytes(&three) == final_bytes(&one));
}

#[test]
fn law_7_a_run_that_is_repeated_on_as_many_ranks_is_the_same_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    for path in [&first, &second] {
        succeed(&mut demo(3, path, &["train.determinism=same_world", "train.max_steps=12"]));
    }
    assert!(final_bytes(&first) == final_bytes(&second));
}

/// A run in legs, each with a limit of steps and on its own number of ranks; the last one goes to the end.
fn in_legs(run_folder: &Path, legs: &[(usize, Option<u32>)], settings: &[&str]) {
    for (ranks, limit) in legs {
        let mut command = demo(*ranks, run_folder, settings);
        command.args(["--resume", "auto"]);
        let output = stop_after(&mut command, run_folder, *limit);
        let expected = if limit.is_some() { 75 } else { 0 };
        assert_eq!(output.0, Some(expected), "{ranks} ranks: {}", output.1);
    }
}

/// Runs to the end, or sends USR2 to the ranks once so many steps are in the metrics.
fn stop_after(command: &mut Command, run_folder: &Path, limit: Option<u32>) -> (Option<i32>, String) {
    let Some(limit) = limit else {
        let output = run(command);
        return (output.status.code(), stderr(&output));
    };
    let marker = run_folder.display().to_string();
    let folder = run_folder.to_owned();
    let watcher = std::thread::spawn(move || {
        for _ in 0..60_000 {
            if steps_done(&folder) >= u64::from(limit) {
                let pattern = format!("lift-trainer.*{marker}");
                let ranks = Command::new("pgrep").args(["-f", &pattern]).output().unwrap();
                for pid in String::from_utf8_lossy(&ranks.stdout).lines() {
                    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                    if name.trim() == "lift-trainer" {
                        let _ = Command::new("kill").args(["-USR2", pid]).status();
                    }
                }
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    let output = run(command);
    watcher.join().unwrap();
    (output.status.code(), stderr(&output))
}

fn steps_are_whole(run_folder: &Path) {
    let steps: Vec<u64> =
        metrics(run_folder, "step").iter().map(|row| row["step"].as_u64().unwrap()).collect();
    assert!(steps.iter().copied().eq(1..=steps.len() as u64), "each step once, in order: {steps:?}");
}

const LEGS: [(usize, Option<u32>); 4] = [(2, Some(8)), (4, Some(20)), (1, Some(30)), (3, None)];

fn undisturbed_and_in_legs(folder: &Path, settings: &[&str]) -> (PathBuf, PathBuf) {
    let (whole, legs) = (folder.join("whole"), folder.join("legs"));
    succeed(&mut demo(2, &whole, settings));
    in_legs(&legs, &LEGS, settings);
    steps_are_whole(&legs);
    (whole, legs)
}

#[test]
fn law_7_resumed_on_2_4_1_and_3_ranks_under_any_world_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["train.determinism=any_world", "train.epochs=2", "eval.every_epochs=1"];
    let (whole, legs) = undisturbed_and_in_legs(folder.path(), &settings);
    assert_eq!(losses(&legs), losses(&whole));
    assert!(final_bytes(&legs) == final_bytes(&whole));
    for kind in ["eval", "epoch"] {
        assert_eq!(metrics(&legs, kind).len(), metrics(&whole, kind).len(), "{kind} lines");
    }
}

#[test]
fn law_7_resumed_on_2_4_1_and_3_ranks_within_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, legs) = undisturbed_and_in_legs(folder.path(), &["train.epochs=2", "head.placement=sharded"]);
    within(&losses(&legs), &losses(&whole), 1e-5);
}

#[test]
fn law_7_resumed_on_as_many_ranks_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["train.determinism=same_world", "train.epochs=2", "checkpoint.every_steps=7"];
    let (whole, legs) = (folder.path().join("whole"), folder.path().join("legs"));
    succeed(&mut demo(2, &whole, &settings));
    in_legs(&legs, &[(2, Some(5)), (2, Some(12)), (2, None)], &settings);
    assert_eq!(losses(&legs), losses(&whole));
    assert!(final_bytes(&legs) == final_bytes(&whole));
}

#[test]
fn a_changed_configuration_is_shown_and_refused_unless_it_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let settings = ["train.epochs=2", "checkpoint.every_steps=3"];
    in_legs(&path, &[(1, Some(4))], &settings);
    let changed = [&settings[..], &["train.learning_rate=0.02"]].concat();
    let refused = run(demo(2, &path, &changed).args(["--resume", "auto"]));
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("train.learning_rate: 0.01 before, 0.02 now"), "{said}");
    assert!(said.contains("--allow-changed"), "{said}");
    let allowed = ["--resume", "auto", "--allow-changed", "train.learning_rate"];
    succeed(demo(2, &path, &changed).args(allowed));
    steps_are_whole(&path);
}

#[test]
fn a_run_goes_on_in_another_folder_from_a_checkpoint_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let settings = ["train.epochs=1", "checkpoint.every_steps=5", "checkpoint.keep=20"];
    succeed(&mut demo(1, &first, &settings));
    let from = first.join("checkpoints/00000010");
    succeed(demo(1, &second, &settings).arg("--resume").arg(&from));
    assert!(final_bytes(&first) == final_bytes(&second));
    assert_eq!(losses(&second), losses(&first));
    let none = run(demo(1, &second, &settings).arg("--resume").arg(folder.path().join("nowhere")));
    assert_eq!(none.status.code(), Some(2), "{}", stderr(&none));
}

#[test]
fn a_finished_run_that_is_started_again_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    succeed(&mut demo(2, &path, &["train.max_steps=3"]));
    let before = final_bytes(&path);
    let output = succeed(demo(2, &path, &["train.max_steps=3"]).env("LIFT_RESTART_COUNT", "1"));
    assert!(stderr(&output).contains("finished before"), "{}", stderr(&output));
    assert!(final_bytes(&path) == before);
}
