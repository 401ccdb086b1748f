//! `lift watch` beside a run, on a terminal and without one; completions and man pages.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::launched::{code, wait_for};
use tests::stripes::short_run;
use tests::{binary, run, stderr, succeed};

fn lift(words: &[&str]) -> Command {
    let mut command = Command::new(binary("lift"));
    command.args(words).stdin(Stdio::null());
    command
}

#[test]
fn a_run_is_watched_until_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut trainer = short_run(2, &path, &["train.epochs=3", "train.batch_size=16", "eval.every_epochs=1"]);
    let mut trainer = trainer.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the status of the run", Duration::from_mins(1), || path.join("status.json").exists());
    let shown = succeed(lift(&["watch"]).arg(&path));
    assert_eq!(code(&mut trainer, Duration::from_mins(1)), Some(0));
    let lines = String::from_utf8(shown.stdout).unwrap();
    assert!(lines.contains("evaluation after step 9  overall ") && lines.ends_with("done\n"), "{lines}");

    // On a terminal, the run is drawn, and the last figures stay when the screen is left.
    let words = format!("stty cols 100 rows 30; {} watch {}", binary("lift").display(), path.display());
    let drawn = Command::new("script").args(["-qefc", &words, "/dev/null"]).stdin(Stdio::null()).output();
    let Ok(drawn) = drawn else {
        eprintln!("skipped: a_run_is_watched_until_its_end, its part on a terminal (no `script`)");
        return;
    };
    let text = String::from_utf8_lossy(&drawn.stdout);
    assert!(drawn.status.success(), "{text}");
    let (screen, after) = text.split_once("\u{1b}[?1049l").expect("the screen is left");
    assert!(screen.contains("\u{1b}[?1049h") && screen.contains("images"), "{screen}");
    assert!(after.contains("evaluation after step 9") && after.contains("done"), "{after}");
}

#[test]
fn a_folder_without_a_run_is_not_watched() {
    let folder = tempfile::tempdir().unwrap();
    let refused = run(lift(&["watch"]).arg(folder.path()));
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("is not the folder of a run"), "{}", stderr(&refused));
}

#[test]
fn shells_and_man_know_both_programs() {
    let folder = tempfile::tempdir().unwrap();
    for program in ["lift", "lift-trainer"] {
        for shell in ["bash", "zsh", "fish"] {
            let script = succeed(Command::new(binary(program)).args(["completions", shell]));
            let script = String::from_utf8(script.stdout).unwrap();
            assert!(
                script.contains(if program == "lift" { "log-export" } else { "allow-changed" }),
                "{program} {shell}"
            );
            let file = folder.path().join("script");
            fs::write(&file, script).unwrap();
            if let Ok(checked) = Command::new(shell).arg("-n").arg(&file).output() {
                assert!(checked.status.success(), "{program} {shell}: {}", stderr(&checked));
            }
        }
        let pages = folder.path().join("man1");
        succeed(Command::new(binary(program)).arg("man").arg(&pages));
        assert!(fs::read_to_string(pages.join(format!("{program}.1"))).unwrap().contains(".TH"));
    }
    assert!(
        folder.path().join("man1/lift-report.1").exists()
            && folder.path().join("man1/lift-trainer-train.1").exists()
    );
}
