//! Changes to the folder of a running run: it is moved, another run takes its name, its files are removed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use protocol::{Phase, Status};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tests::launched::{training, wait_for, wait_for_checkpoint};
use tests::{checkpoints, losses, run, stderr, succeed, trainer};

const LIMIT: Duration = Duration::from_mins(1);

/// Starts a long run, and waits for its first checkpoint. Its messages go into a file.
fn start_run(ranks: usize, folder: &Path) -> (Child, PathBuf) {
    let messages = folder.with_extension("log");
    let mut command = trainer(ranks);
    command.args(training(&folder.display().to_string(), 1_000_000));
    let file = std::fs::File::create(&messages).unwrap();
    let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
    wait_for_checkpoint(folder, 5);
    (child, messages)
}

fn wait_for_end(child: &mut Child, messages: &Path) -> (Option<i32>, String) {
    let code = tests::launched::code(child, LIMIT);
    (code, std::fs::read_to_string(messages).unwrap())
}

/// Every file in the folder, with its content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Resumes the run for a few further steps.
fn resumed(folder: &Path) -> Command {
    let (_, done) = checkpoints(folder).pop().unwrap();
    let mut command = trainer(1);
    command.args(training(&folder.display().to_string(), done + 3));
    command.args(["--resume", "auto", "--allow-changed", "train.max_steps"]);
    command
}

#[test]
fn options_without_a_command_train() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("run");
    let mut words = training(&folder.display().to_string(), 2);
    assert_eq!(words.remove(0), "train");
    succeed(trainer(1).args(&words));
    let status = Status::read(&folder).unwrap();
    assert_eq!((status.phase, status.step), (Phase::Done, 2));
}

#[test]
fn a_run_whose_folder_was_replaced_ends_and_does_not_change_the_new_run() {
    let parent = tempfile::tempdir().unwrap();
    let (place, old) = (parent.path().join("run"), parent.path().join("old"));
    let (mut first, messages) = start_run(1, &place);
    std::fs::rename(&place, &old).unwrap();
    succeed(trainer(1).args(training(&place.display().to_string(), 10)));
    let before = content(&place);
    let (code, messages) = wait_for_end(&mut first, &messages);
    assert_eq!(code, Some(1), "{messages}");
    assert!(messages.contains("is no longer the folder of this run"), "{messages}");
    assert!(messages.contains(&format!("resume it with `--output {} ", old.display())), "{messages}");
    assert!(content(&place) == before, "the other run's files were changed");
    assert_eq!(Status::read(&old).unwrap().phase, Phase::Failed);
    succeed(&mut resumed(&old));
}

#[test]
fn ranks_whose_folder_was_moved_end_and_create_no_new_one() {
    let parent = tempfile::tempdir().unwrap();
    let (place, old) = (parent.path().join("run"), parent.path().join("old"));
    let (mut child, messages) = start_run(2, &place);
    std::fs::rename(&place, &old).unwrap();
    let (code, messages) = wait_for_end(&mut child, &messages);
    assert_eq!(code, Some(1), "{messages}");
    assert!(messages.contains("it was moved or removed"), "{messages}");
    assert!(!place.exists());
}

#[test]
fn a_removed_lock_admits_no_second_run_and_is_restored() {
    let parent = tempfile::tempdir().unwrap();
    let place = parent.path().join("run");
    let (mut child, _) = start_run(1, &place);
    let lock = place.join("run.lock");
    std::fs::remove_file(&lock).unwrap();
    let second = run(&mut resumed(&place));
    assert_eq!(second.status.code(), Some(2), "{}", stderr(&second));
    assert!(stderr(&second).contains("is being written by"), "{}", stderr(&second));
    wait_for("run.lock", LIMIT, || lock.exists());
    assert!(child.try_wait().unwrap().is_none(), "the first run continues");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn removed_metrics_are_restored() {
    let parent = tempfile::tempdir().unwrap();
    let place = parent.path().join("run");
    let mut command = trainer(1);
    command.args(training(&place.display().to_string(), 150));
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_checkpoint(&place, 5);
    std::fs::remove_file(place.join("metrics.jsonl")).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("were removed; the file is written again with all its lines"));
    assert_eq!(losses(&place).len(), 150);
}

#[test]
fn a_run_resumes_without_its_metrics() {
    let parent = tempfile::tempdir().unwrap();
    let (place, other) = (parent.path().join("run"), parent.path().join("other"));
    succeed(trainer(1).args(training(&place.display().to_string(), 10)));
    std::fs::remove_file(place.join("metrics.jsonl")).unwrap();
    let mut command = trainer(1);
    command.args(training(&other.display().to_string(), 13)).arg("--resume").arg(&place);
    let output = succeed(command.args(["--allow-changed", "train.max_steps"]));
    assert!(stderr(&output).contains("the metrics"), "{}", stderr(&output));
    let output = succeed(&mut resumed(&place));
    assert!(stderr(&output).contains("are gone: the run resumes after step 10"), "{}", stderr(&output));
    assert_eq!((losses(&other).len(), losses(&place).len()), (3, 3));
}
