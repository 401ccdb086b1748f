//! Going on with a run: what may be changed, what a refusal leaves alone, and what a restart after a restart finds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use protocol::{Outcome, Phase, Status, layout};
use std::path::Path;
use std::process::{Command, Output};
use tests::launched::wait_for_checkpoint;
use tests::stripes::{SMALL_TRAINING, data_beside};
use tests::synthetic::data_set;
use tests::{binary, json, losses, metrics, run, stderr, succeed, trainer};

/// Steps of an epoch of [`training`].
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
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(Outcome::WrongInput.exit_code().into()), "{said}");
    said
}

/// A run that is not finished: it has ended at this step as if it had been killed there.
fn unfinished(folder: &Path, name: &str, step: u64) -> std::path::PathBuf {
    let path = folder.join(name);
    succeed(&mut training(&path, &[&format!("train.max_steps={step}")]));
    for file in [layout::RESULT, layout::FINAL_WEIGHTS] {
        std::fs::remove_file(path.join(file)).unwrap();
    }
    path
}

/// What the metrics say, without times.
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
fn more_steps_give_the_run_that_had_them_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, grown) = (folder.path().join("whole"), folder.path().join("grown"));
    let all = ["train.max_steps=30"];
    assert_eq!(EPOCH, 14);
    succeed(&mut training(&whole, &all));
    // Cut off within an epoch, at its end, and within the next.
    for steps in ["train.max_steps=8", "train.max_steps=14", "train.max_steps=17", all[0]] {
        let arguments = ["--resume", "auto", "--allow-changed", "train.max_steps"];
        succeed(training(&grown, &[steps]).args(arguments));
    }
    assert_eq!(lines(&grown), lines(&whole));
    assert_eq!(json(&grown.join("result.json"))["correct"], json(&whole.join("result.json"))["correct"]);
}

#[test]
fn a_finished_run_shows_what_is_changed_and_goes_on_only_if_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    succeed(&mut training(&path, &["train.epochs=1"]));
    let more = ["train.epochs=2"];
    let said = refused(training(&path, &more).args(["--resume", "auto"]));
    assert!(said.contains("train.epochs: 1 before, 2 now"), "{said}");
    let allowed = ["--resume", "auto", "--allow-changed", "train.epochs"];
    succeed(training(&path, &more).args(allowed));
    assert_eq!((metrics(&path, "epoch").len(), losses(&path).len()), (2, 2 * EPOCH as usize));
    // The evaluation after the first epoch is one on the way now.
    assert_eq!(metrics(&path, "eval").len(), 2);
    let again = succeed(training(&path, &more).args(allowed));
    assert!(stderr(&again).contains("already finished"), "{}", stderr(&again));
    let file = folder.path().join("predictions.txt");
    let said = refused(training(&path, &more).args(allowed).arg("--predictions").arg(&file));
    assert!(said.contains("lift-trainer eval --run"), "{said}");
}

#[test]
fn an_old_result_does_not_outlive_the_run_that_goes_on() {
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
fn the_size_of_a_batch_changes_only_where_an_epoch_ends() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["train.batch_size=2"];
    let allowed = ["--allow-changed", "train.batch_size", "--allow-changed", "train.max_steps", "--resume"];
    let path = unfinished(folder.path(), "run", 20);
    let said = refused(training(&path, &settings).args(allowed).arg("auto"));
    assert!(said.contains("train.batch_size decides which samples follow"), "{said}");
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
fn what_changes_every_gradient_or_trains_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = unfinished(folder.path(), "run", 8);
    let same = "train.max_steps=8";
    let said = refused(training(&path, &[same, "distributed.wire=bf16"]).args(["--resume", "auto"]));
    assert!(said.contains("distributed.wire"), "{said}");
    let none = ["--resume", "auto", "--allow-changed", "train.epochs"];
    let said = refused(training(&path, &[same, "train.epochs=0"]).args(none));
    assert!(said.contains("train.epochs=0 trains nothing"), "{said}");
}

#[test]
fn a_refusal_leaves_the_run_as_it_was() {
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
    let said = again(&path);
    assert!(said.contains("data"), "{said}");
    assert!(content(&path) == before, "checkpoints, metrics and configuration are as they were");
    let new = folder.path().join("new");
    again(&new);
    assert!(!new.exists(), "the command can be given again, corrected");
}

#[test]
fn another_run_without_checkpoints_is_not_taken_for_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = unfinished(folder.path(), "run", 3);
    std::fs::remove_dir_all(path.join(layout::CHECKPOINTS)).unwrap();
    let before = std::fs::read(path.join(layout::METRICS)).unwrap();
    let said = refused(training(&path, &["train.max_steps=3", "train.seed=5"]).args(["--resume", "auto"]));
    assert!(said.contains("train.seed: 0 before, 5 now"), "{said}");
    assert!(std::fs::read(path.join(layout::METRICS)).unwrap() == before);
}

#[test]
fn a_restart_of_a_run_that_began_with_another_goes_on_with_that() {
    let folder = tempfile::tempdir().unwrap();
    let old = unfinished(folder.path(), "old", 20);
    let (whole, new) = (folder.path().join("whole"), folder.path().join("new"));
    let settings = ["train.max_steps=32"];
    let go_on = |output: &Path, restarts: &str| {
        let mut command = training(output, &settings);
        command.args(["--allow-changed", "train.max_steps", "--resume"]).arg(&old);
        command.env("LIFT_RESTART_COUNT", restarts);
        command
    };
    succeed(&mut training(&whole, &settings));
    // What a first start leaves that is killed when it has just made its folder.
    std::fs::create_dir(&new).unwrap();
    std::fs::copy(old.join(layout::METRICS), new.join(layout::METRICS)).unwrap();
    succeed(&mut go_on(&new, "1"));
    assert_eq!(lines(&new), lines(&whole));
    // A later one finds what the run itself has made: here, that it is finished.
    let last = succeed(&mut go_on(&new, "2"));
    assert!(stderr(&last).contains("already finished"), "{}", stderr(&last));
    // The new folder is complete without the old: it begins with the checkpoint that it resumed from. Which of the later
    // ones exist depends on the disk: a snapshot that still waits is replaced by a newer one.
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
    // One step at a useless rate is worse: the best stays that of the first run.
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
fn a_run_ends_with_its_result_though_checkpoints_fail_unless_too_many_do() {
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
    let impatient = with_full_disk("impatient", "checkpoint.max_failures=3");
    let said = stderr(&impatient);
    assert_eq!(impatient.status.code(), Some(1), "{said}");
    assert!(said.contains("3 checkpoints in a row could not be written"), "{said}");
}

#[test]
fn a_run_that_ended_between_its_result_and_its_last_word_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    succeed(&mut training(&path, &["train.max_steps=2"]));
    let mut status = Status::read(&path).unwrap();
    status.end(Outcome::Failed, Some("rank 1 is gone".into()));
    status.write(&path).unwrap();
    succeed(training(&path, &["train.max_steps=2"]).args(["--resume", "auto"]));
    let status = Status::read(&path).unwrap();
    assert_eq!((status.phase, status.message), (Phase::Done, None));
}
