//! Resuming a run: allowed changes, refusals that change nothing, and repeated restarts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use protocol::{Outcome, Phase, Status, layout};
use std::path::Path;
use std::process::{Command, Output};
use tests::launched::wait_for_checkpoint;
use tests::stripes::{SMALL_TRAINING, data_beside, final_bytes};
use tests::synthetic::data_set;
use tests::{binary, json, losses, metrics, run, stderr, succeed, trainer};

/// Number of steps per epoch of [`training`].
const EPOCH: u64 = SMALL_TRAINING.div_ceil(3);

/// A classifier on one rank, of three epochs, with a checkpoint after every step.
fn training(output: &Path, settings: &[&str]) -> Command {
    let mut command = trainer(1);
    command.args(["train", "-q", "-m", "demo", "--method", "classifier", "-d"]).arg(data_beside(output));
    let fixed = [
        "train.threads=1",
        "train.epochs=3",
        "train.batch_size=3",
        "checkpoint.every_steps=1",
        "checkpoint.keep=50",
        "eval.every_epochs=1",
    ];
    for setting in fixed.iter().chain(settings) {
        command.args(["--set", setting]);
    }
    command.arg("--output").arg(output);
    command
}

fn refused(command: &mut Command) -> String {
    let output: Output = run(command);
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(Outcome::WrongInput.exit_code().into()), "{messages}");
    messages
}

/// An unfinished run, which looks as if it had been killed at this step.
fn unfinished(folder: &Path, name: &str, step: u64) -> std::path::PathBuf {
    let path = folder.join(name);
    succeed(&mut training(&path, &[&format!("train.max_steps={step}")]));
    for file in [layout::RESULT, layout::FINAL_WEIGHTS] {
        std::fs::remove_file(path.join(file)).unwrap();
    }
    path
}

/// Lines of the metrics, without times.
fn lines(run: &Path) -> Vec<(String, String, String)> {
    let of = |kind: &str| metrics(run, kind).into_iter();
    ["step", "epoch", "eval"]
        .into_iter()
        .flat_map(of)
        .map(|row| (row["kind"].to_string(), row["step"].to_string(), row["loss"].to_string()))
        .collect()
}

fn content(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names: Vec<_> = std::fs::read_dir(run.join(layout::CHECKPOINTS))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| (name, Vec::new()))
        .collect();
    names.sort();
    for file in [layout::METRICS, layout::CONFIG] {
        names.push((file.to_owned(), std::fs::read(run.join(file)).unwrap()));
    }
    names
}

#[test]
fn a_run_with_more_steps_equals_a_run_that_had_them_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, grown) = (folder.path().join("whole"), folder.path().join("grown"));
    let all = ["train.max_steps=30"];
    assert_eq!(EPOCH, 14);
    succeed(&mut training(&whole, &all));
    // Stops within an epoch, at its end, and within the next one.
    for steps in ["train.max_steps=8", "train.max_steps=14", "train.max_steps=17", all[0]] {
        let arguments = ["--resume", "auto", "--allow-changed", "train.max_steps"];
        succeed(training(&grown, &[steps]).args(arguments));
    }
    assert_eq!(lines(&grown), lines(&whole));
    assert_eq!(json(&grown.join("result.json"))["correct"], json(&whole.join("result.json"))["correct"]);
}

#[test]
fn a_finished_run_continues_only_with_allowed_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    succeed(&mut training(&path, &["train.epochs=1"]));
    let longer = ["train.epochs=2"];
    let messages = refused(training(&path, &longer).args(["--resume", "auto"]));
    assert!(messages.contains("train.epochs: 1 before, 2 now"), "{messages}");
    let allowed = ["--resume", "auto", "--allow-changed", "train.epochs"];
    succeed(training(&path, &longer).args(allowed));
    assert_eq!((metrics(&path, "epoch").len(), losses(&path).len()), (2, 2 * EPOCH as usize));
    // The evaluation after the first epoch is now an intermediate one.
    assert_eq!(metrics(&path, "eval").len(), 2);
    let again = succeed(training(&path, &longer).args(allowed));
    assert!(stderr(&again).contains("already finished"), "{}", stderr(&again));
    let file = folder.path().join("predictions.txt");
    let messages = refused(training(&path, &longer).args(allowed).arg("--predictions").arg(&file));
    assert!(messages.contains("lift-trainer eval --run"), "{messages}");
}

#[test]
fn a_continued_run_removes_its_old_result() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    succeed(&mut training(&path, &["train.epochs=1"]));
    let mut command = training(&path, &["train.epochs=200"]);
    let mut child = command.args(["--resume", "auto", "--allow-changed", "train.epochs"]).spawn().unwrap();
    wait_for_checkpoint(&path, EPOCH + 2);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!path.join(layout::RESULT).exists(), "the result of one epoch is not that of two hundred");
}

#[test]
fn the_batch_size_changes_only_at_the_end_of_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["train.batch_size=2"];
    let allowed = ["--allow-changed", "train.batch_size", "--allow-changed", "train.max_steps", "--resume"];
    let path = unfinished(folder.path(), "run", 20);
    let messages = refused(training(&path, &settings).args(allowed).arg("auto"));
    assert!(messages.contains("train.batch_size decides which samples follow"), "{messages}");
    let end = path.join(layout::CHECKPOINTS).join(layout::checkpoint(EPOCH));
    let other = folder.path().join("other");
    let changed = ["train.batch_size=2", "train.epochs=2"];
    succeed(training(&other, &changed).args(allowed).arg(&end).args(["--allow-changed", "train.epochs"]));
    let samples =
        |run: &Path| metrics(run, "epoch").iter().map(|row| row["samples"].as_u64()).collect::<Vec<_>>();
    let of_other = samples(&other);
    assert_eq!(of_other[0], of_other[1], "an epoch has as many samples as the one before");
    assert_eq!(metrics(&other, "step").len() as u64, EPOCH + SMALL_TRAINING.div_ceil(2), "{of_other:?}");
}

#[test]
fn changes_of_every_gradient_and_runs_without_training_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = unfinished(folder.path(), "run", 8);
    let same = "train.max_steps=8";
    let messages = refused(training(&path, &[same, "distributed.wire=bf16"]).args(["--resume", "auto"]));
    assert!(messages.contains("distributed.wire"), "{messages}");
    let none = ["--resume", "auto", "--allow-changed", "train.epochs"];
    let messages = refused(training(&path, &[same, "train.epochs=0"]).args(none));
    assert!(messages.contains("train.epochs=0 trains nothing"), "{messages}");
}

#[test]
fn a_refusal_does_not_change_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let lists = |name: &str, labels: &[usize]| {
        let root = folder.path().join(name);
        std::fs::create_dir(&root).unwrap();
        data_set(&root, labels.iter().copied()).unwrap()
    };
    let (data, other) = (lists("data", &[0, 1, 1, 0, 1, 1, 0, 1]), lists("other", &[0, 1, 1, 1, 1, 1, 0, 1]));
    let train = |data: &Path, output: &Path| {
        let mut command = trainer(1);
        command.args([
            "train",
            "-q",
            "-m",
            "demo",
            "--set",
            "train.batch_size=2",
            "--set",
            "head.init=random",
        ]);
        command.args(["--set", "checkpoint.every_steps=1", "--set", "train.epochs=2", "-d"]).arg(data);
        command.arg("--output").arg(output);
        command
    };
    let path = folder.path().join("run");
    succeed(&mut train(&data, &path));
    let before = content(&path);
    let from = path.join(layout::CHECKPOINTS).join(before[1].0.as_str());
    let again = |output: &Path| refused(train(&other, output).arg("--resume").arg(&from));
    let messages = again(&path);
    assert!(messages.contains("data"), "{messages}");
    assert!(content(&path) == before, "checkpoints, metrics and configuration are as they were");
    let new = folder.path().join("new");
    again(&new);
    assert!(!new.exists(), "the corrected command can be repeated");
}

#[test]
fn another_run_without_checkpoints_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let path = unfinished(folder.path(), "run", 3);
    std::fs::remove_dir_all(path.join(layout::CHECKPOINTS)).unwrap();
    let before = std::fs::read(path.join(layout::METRICS)).unwrap();
    let messages =
        refused(training(&path, &["train.max_steps=3", "train.seed=5"]).args(["--resume", "auto"]));
    assert!(messages.contains("train.seed: 0 before, 5 now"), "{messages}");
    assert!(std::fs::read(path.join(layout::METRICS)).unwrap() == before);
}

#[test]
fn a_restart_of_a_run_that_resumed_from_another_run_resumes_from_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let old = unfinished(folder.path(), "old", 20);
    let (whole, new) = (folder.path().join("whole"), folder.path().join("new"));
    let settings = ["train.max_steps=32"];
    let resume = |output: &Path, restarts: &str| {
        let mut command = training(output, &settings);
        command.args(["--allow-changed", "train.max_steps", "--resume"]).arg(&old);
        command.env("LIFT_RESTART_COUNT", restarts);
        command
    };
    succeed(&mut training(&whole, &settings));
    // The state after a first start that was killed when it had created its folder.
    std::fs::create_dir(&new).unwrap();
    std::fs::copy(old.join(layout::METRICS), new.join(layout::METRICS)).unwrap();
    succeed(&mut resume(&new, "1"));
    assert_eq!(lines(&new), lines(&whole));
    // A later start finds the state of the run itself: here, it is finished.
    let last = succeed(&mut resume(&new, "2"));
    assert!(stderr(&last).contains("already finished"), "{}", stderr(&last));
    // The new folder does not need the old one: it contains the checkpoint from which it resumed. Which of the later ones
    // exist depends on the disk, because a newer snapshot replaces one that still waits.
    let checkpoints = new.join(layout::CHECKPOINTS);
    assert!(checkpoints.join(layout::checkpoint(20)).is_dir());
    assert!(checkpoints.join(layout::checkpoint(32)).is_dir());
}

#[test]
fn the_best_checkpoint_is_known_after_the_last_evaluation_and_in_another_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let settings = ["checkpoint.best=accuracy", "eval.every_epochs=0", "train.epochs=1"];
    succeed(&mut training(&one, &settings));
    let best = |run: &Path| json(&run.join("checkpoints/best.json"));
    let accuracy = json(&one.join("result.json"))["accuracy"].as_f64().unwrap();
    assert_eq!(best(&one)["step"], EPOCH);
    assert!((best(&one)["metric"].as_f64().unwrap() - accuracy).abs() < 1e-9, "{}", best(&one));
    // One step with a useless learning rate is worse, so the best checkpoint stays that of the first run.
    let worse =
        ["checkpoint.best=accuracy", "eval.every_epochs=0", "train.epochs=2", "train.learning_rate=1e5"];
    let mut command = training(&two, &worse);
    for key in ["train.epochs", "train.learning_rate"] {
        command.args(["--allow-changed", key]);
    }
    succeed(command.arg("--resume").arg(&one));
    assert_eq!(best(&two), best(&one));
    assert!(two.join(layout::CHECKPOINTS).join(layout::checkpoint(EPOCH)).is_dir());
}

#[test]
fn a_run_finishes_despite_failed_checkpoints_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let with_full_disk = |name: &str, most: &str| {
        let mut command = Command::new(binary("lift-trainer-faults"));
        let settings = ["train.max_steps=6", "checkpoint.best=accuracy", most];
        command.args(training(&folder.path().join(name), &settings).get_args());
        run(command.env("LIFT_FAULT", "fail:rename@1:ENOSPC:1000"))
    };
    let patient = with_full_disk("patient", "checkpoint.max_failures=50");
    assert!(patient.status.success(), "{}", stderr(&patient));
    assert!(folder.path().join("patient").join(layout::RESULT).exists());
    let limited = with_full_disk("impatient", "checkpoint.max_failures=3");
    let messages = stderr(&limited);
    assert_eq!(limited.status.code(), Some(1), "{messages}");
    assert!(messages.contains("3 checkpoints in a row could not be written"), "{messages}");
}

#[test]
fn a_run_that_ended_between_its_result_and_its_last_status_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    succeed(&mut training(&path, &["train.max_steps=2"]));
    let mut status = Status::read(&path).unwrap();
    status.end(Outcome::Failed, Some("rank 1 is gone"));
    status.write(&path).unwrap();
    succeed(training(&path, &["train.max_steps=2"]).args(["--resume", "auto"]));
    let status = Status::read(&path).unwrap();
    assert_eq!((status.phase, status.message), (Phase::Done, None));
}

#[test]
fn the_micro_batch_that_auto_found_is_recorded_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let micro_batch = |run: &Path| {
        let config: toml::Table = std::fs::read_to_string(run.join(layout::CONFIG)).unwrap().parse().unwrap();
        config["train"]["micro_batch_size"].as_integer()
    };
    // All images of a step fit into the memory of this machine.
    succeed(&mut training(&path("auto"), &["train.micro_batch_size=auto"]));
    assert_eq!(micro_batch(&path("auto")), Some(3));
    succeed(&mut training(&path("three"), &["train.micro_batch_size=3"]));
    assert_eq!(final_bytes(&path("auto")), final_bytes(&path("three")));

    let cut = path("cut");
    succeed(&mut training(&cut, &["train.max_steps=5", "train.micro_batch_size=2"]));
    for file in [layout::RESULT, layout::FINAL_WEIGHTS] {
        std::fs::remove_file(cut.join(file)).unwrap();
    }
    let resumed = ["train.micro_batch_size=auto", "train.max_steps=0"];
    succeed(training(&cut, &resumed).args(["--resume", "auto", "--allow-changed", "train.max_steps"]));
    assert_eq!(micro_batch(&cut), Some(2));
    succeed(&mut training(&path("two"), &["train.micro_batch_size=2"]));
    assert_eq!(final_bytes(&cut), final_bytes(&path("two")));

    let settings = ["train.micro_batch_size=auto", "train.accumulation=official"];
    let said = refused(&mut training(&path("official"), &settings));
    assert!(said.contains("set train.micro_batch_size to a number"), "{said}");
}
