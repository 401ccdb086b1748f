//! Bitwise equal runs: on any number of ranks, repeated on the same number, and after a resume.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tests::launched::{ranks as processes, signal, wait_for_checkpoint};
use tests::stripes::{SMALL_TRAINING, final_bytes, short_run};
use tests::{losses, metrics, run, stderr, succeed, within};

/// A short run on the small data set.
fn training(ranks: usize, output: &Path, settings: &[&str]) -> Command {
    short_run(ranks, output, &[&["train.batch_size=16"], settings].concat())
}

#[test]
fn law_1_any_world_is_bitwise_equal_on_1_2_4_and_8_ranks() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(SMALL_TRAINING % 9, 5, "an epoch ends in a batch of fewer samples than ranks");
    let settings = ["train.determinism=any_world", "train.epochs=10", "train.batch_size=9"];
    let path = |ranks: usize| folder.path().join(ranks.to_string());
    for ranks in [1, 2, 4, 8] {
        succeed(&mut training(ranks, &path(ranks), &settings));
    }
    let samples: Vec<_> =
        metrics(&path(8), "step").iter().map(|row| row["samples"].as_u64().unwrap()).collect();
    assert_eq!(samples, [9, 9, 9, 9, 5].repeat(10));
    for ranks in [2, 4, 8] {
        assert_eq!(losses(&path(ranks)), losses(&path(1)), "losses on {ranks} ranks");
        assert!(final_bytes(&path(ranks)) == final_bytes(&path(1)), "weights on {ranks} ranks");
    }
    assert_ne!(losses(&path(1))[0], losses(&path(1))[49]);
}

#[test]
fn law_1_any_world_covers_class_means_and_sharded_backbones() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["train.determinism=any_world", "train.max_steps=6", "head.init=class_mean"];
    let (one, three) = (folder.path().join("one"), folder.path().join("three"));
    succeed(&mut training(1, &one, &settings));
    let sharded = [&settings[..], &["backbone.placement=sharded"]].concat();
    succeed(&mut training(3, &three, &sharded));
    assert!(final_bytes(&three) == final_bytes(&one));
}

#[test]
fn law_7_a_run_repeated_on_the_same_number_of_ranks_is_bitwise_equal() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    for path in [&first, &second] {
        succeed(&mut training(3, path, &["train.determinism=same_world", "train.max_steps=12"]));
    }
    assert!(final_bytes(&first) == final_bytes(&second));
}

/// Runs a training in several starts, each on its own number of ranks. Each start is stopped after a number of steps,
/// and the last one runs to the end. Returns the steps after which the starts have stopped.
fn run_with_stops(run_folder: &Path, starts: &[(usize, Option<u64>)], settings: &[&str]) -> Vec<u64> {
    let mut stops = Vec::new();
    for &(ranks, steps) in starts {
        let mut command = training(ranks, run_folder, settings);
        command.args(["--resume", "auto"]);
        let Some(steps) = steps else {
            succeed(&mut command);
            continue;
        };
        let mut child = command.spawn().unwrap();
        wait_for_checkpoint(run_folder, stops.last().unwrap_or(&0) + steps);
        for pid in processes_of(&child, ranks, run_folder) {
            signal("USR2", &pid);
        }
        let code = tests::launched::code(&mut child, Duration::from_mins(2));
        assert_eq!(code, Some(75), "{ranks} ranks, asked to stop after {steps} steps");
        stops.push(tests::checkpoints(run_folder).last().unwrap().1);
    }
    stops
}

/// Process ids of the ranks of a run.
fn processes_of(child: &std::process::Child, ranks: usize, run_folder: &Path) -> Vec<String> {
    if ranks == 1 { vec![child.id().to_string()] } else { processes(run_folder).into_values().collect() }
}

fn assert_each_step_once(run_folder: &Path) {
    let steps: Vec<u64> =
        metrics(run_folder, "step").iter().map(|row| row["step"].as_u64().unwrap()).collect();
    assert!(steps.iter().copied().eq(1..=steps.len() as u64), "each step once, in order: {steps:?}");
}

const STARTS: [(usize, Option<u64>); 4] = [(2, Some(6)), (4, Some(6)), (1, Some(6)), (3, None)];
/// Twenty-four epochs of three steps with a checkpoint after each step, so that a test sees each step at once.
const MANY_STEPS: [&str; 3] = ["train.epochs=24", "checkpoint.every_steps=1", "checkpoint.keep=2"];

fn undisturbed_and_with_stops(folder: &Path, settings: &[&str]) -> (PathBuf, PathBuf) {
    let (whole, stopped) = (folder.join("whole"), folder.join("legs"));
    let settings = [&MANY_STEPS[..], settings].concat();
    succeed(&mut training(2, &whole, &settings));
    let stops = run_with_stops(&stopped, &STARTS, &settings);
    assert_eq!(stops.len(), 3);
    assert!(stops.is_sorted_by(|a, b| a < b) && stops[2] < 72, "each start makes steps: {stops:?}");
    assert_each_step_once(&stopped);
    (whole, stopped)
}

#[test]
fn law_7_a_run_resumed_on_2_4_1_and_3_ranks_is_bitwise_equal_under_any_world() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["train.determinism=any_world", "eval.every_epochs=8"];
    let (whole, stopped) = undisturbed_and_with_stops(folder.path(), &settings);
    assert_eq!(losses(&stopped), losses(&whole));
    assert!(final_bytes(&stopped) == final_bytes(&whole));
    for (kind, lines) in [("eval", 3), ("epoch", 24)] {
        assert_eq!(metrics(&stopped, kind).len(), lines, "{kind} lines");
        assert_eq!(metrics(&whole, kind).len(), lines, "{kind} lines");
    }
}

#[test]
fn law_7_a_run_resumed_on_2_4_1_and_3_ranks_is_equal_except_for_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, stopped) = undisturbed_and_with_stops(folder.path(), &["head.placement=sharded"]);
    within(&losses(&stopped), &losses(&whole), 1e-5);
}

#[test]
fn law_7_a_run_resumed_on_the_same_number_of_ranks_is_bitwise_equal() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [&MANY_STEPS[..], &["train.determinism=same_world"]].concat();
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("legs"));
    succeed(&mut training(2, &whole, &settings));
    run_with_stops(&stopped, &[(2, Some(5)), (2, Some(5)), (2, None)], &settings);
    assert_eq!(losses(&stopped), losses(&whole));
    assert!(final_bytes(&stopped) == final_bytes(&whole));
}

#[test]
fn a_changed_configuration_is_refused_unless_it_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    run_with_stops(&path, &[(1, Some(4))], &MANY_STEPS);
    let changed = [&MANY_STEPS[..], &["train.learning_rate=0.02"]].concat();
    let refused = run(training(2, &path, &changed).args(["--resume", "auto"]));
    let messages = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{messages}");
    assert!(messages.contains("train.learning_rate: 0.01 before, 0.02 now"), "{messages}");
    assert!(messages.contains("--allow-changed"), "{messages}");
    let allowed = ["--resume", "auto", "--allow-changed", "train.learning_rate"];
    succeed(training(2, &path, &changed).args(allowed));
    assert_each_step_once(&path);
}

#[test]
fn a_run_resumes_in_another_folder_from_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let settings = ["train.epochs=5", "checkpoint.every_steps=5", "checkpoint.keep=20"];
    succeed(&mut training(1, &first, &settings));
    let from = first.join("checkpoints/00000010");
    succeed(training(1, &second, &settings).arg("--resume").arg(&from));
    assert!(final_bytes(&first) == final_bytes(&second));
    assert_eq!(losses(&second), losses(&first));
    let none = run(training(1, &second, &settings).arg("--resume").arg(folder.path().join("nowhere")));
    assert_eq!(none.status.code(), Some(2), "{}", stderr(&none));
}

#[test]
fn restarting_a_finished_run_does_not_change_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    succeed(&mut training(2, &path, &["train.max_steps=3"]));
    let before = final_bytes(&path);
    let output = succeed(training(2, &path, &["train.max_steps=3"]).env("LIFT_RESTART_COUNT", "1"));
    assert!(stderr(&output).contains("already finished"), "{}", stderr(&output));
    assert!(final_bytes(&path) == before);
}
