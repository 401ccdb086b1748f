//! Output to terminals, pipes and files: failed writes do not end a run, and names cannot contain control sequences.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::launched::{code, wait_for};
use tests::pictures::Pictures;
use tests::{binary, json, run, stderr, steps_done, trainer};

/// A full disk.
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

fn short_run(output: &Path) -> Command {
    let mut command = trainer(1);
    command.args([
        "train",
        "--set",
        "train.max_steps=4",
        "--set",
        "train.batch_size=8",
        "--set",
        "train.threads=1",
    ]);
    command.args(["--set", "head.init=random"]).arg("--output").arg(output);
    command
}

#[test]
fn a_full_standard_error_does_not_end_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("full");
    let mut child = short_run(&output).stdout(Stdio::null()).stderr(full()).spawn().unwrap();
    assert_eq!(code(&mut child, Duration::from_mins(2)), Some(0));
    assert_eq!(json(&output.join("status.json"))["phase"], "done");

    let output = folder.path().join("reader-gone");
    let mut command = short_run(&output);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(code(&mut child, Duration::from_mins(2)), Some(0));
    assert_eq!(json(&output.join("status.json"))["phase"], "done");

    // An error that cannot be printed still has its exit code.
    let mut refused = trainer(1);
    refused.args(["train", "-d", "no-such-preset"]).stdout(Stdio::null()).stderr(full());
    assert_eq!(code(&mut refused.spawn().unwrap(), Duration::from_mins(1)), Some(2));
}

#[test]
fn a_full_standard_output_is_reported_and_does_not_change_a_finished_run() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let trained =
        short_run(&output).stdout(full()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let messages = stderr(&trained);
    assert_eq!(trained.status.code(), Some(0), "{messages}");
    assert!(messages.contains("cannot write to the standard output: No space left on device"), "{messages}");
    assert!(messages.contains("result.json"), "{messages}");
    assert_eq!(json(&output.join("status.json"))["phase"], "done");

    // The same through `lift run` and mpirun.
    let mut ranks = Command::new(binary("lift"));
    ranks.args([
        "run",
        "-n",
        "2",
        "--",
        "train",
        "--set",
        "train.max_steps=2",
        "--set",
        "train.batch_size=8",
    ]);
    ranks
        .arg("--output")
        .arg(folder.path().join("ranks"))
        .envs(tests::mpirun(2).get_envs().filter_map(|(n, v)| Some((n, v?))));
    let ranks = ranks.stdout(full()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let messages = stderr(&ranks);
    assert_eq!(ranks.status.code(), Some(0), "{messages}");
    assert!(
        messages.contains("lift: cannot write to the standard output: No space left on device"),
        "{messages}"
    );

    // A command whose only result is on standard output fails.
    let lift = || Command::new(binary("lift"));
    let mut evaluation = trainer(1);
    evaluation.args(["eval", "--run"]).arg(&output);
    let (mut order, mut help, mut status, mut logs) = (trainer(1), trainer(1), lift(), lift());
    order.args(["order", "--count", "5"]);
    help.arg("--help");
    status.arg("status").arg(&output);
    logs.arg("logs").arg(&output);
    for command in [&mut evaluation, &mut order, &mut help, &mut status, &mut logs] {
        let ended =
            command.stdout(full()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let messages = stderr(&ended);
        assert_eq!(ended.status.code(), Some(1), "{command:?}: {messages}");
        assert!(messages.contains("standard output: No space left on device"), "{command:?}: {messages}");
    }
}

/// Whether the text contains a control sequence.
fn contains_control_sequence(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.chars().any(|letter| letter.is_control() && !"\n\t".contains(letter))
}

#[test]
fn escape_sequences_in_names_reach_neither_terminals_nor_logs() {
    const ESCAPE: &str = "\u{1b}]0;x\u{7}\u{1b}[31mred\u{9b}1m";
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let pictures = Pictures::create(&data);
    let select = |verb: &str| {
        let mut command = trainer(1);
        command.arg(verb).arg("-d").arg(pictures.preset()).args(["-m", "demo", "--set", "head.init=random"]);
        command
    };
    // Sources of names: a class in results, a missing image, a setting, and a status and a log of another program.
    fs::write(data.join("names.txt"), format!("even{ESCAPE}\nodd\n")).unwrap();
    let checked = run(&mut select("check"));
    let output = folder.path().join("run");
    let list = fs::read_to_string(data.join("train.txt")).unwrap();
    fs::write(data.join("train.txt"), format!("{ESCAPE}.bmp 0\n{list}")).unwrap();
    let trained = run(select("train").args(["--set", "train.epochs=1"]).arg("--output").arg(&output));
    let set = run(select("check").args(["--set", &format!("train.seed={ESCAPE}")]));
    for (what, output) in [("check", checked), ("train", trained), ("--set", set)] {
        assert!(
            !contains_control_sequence(&output.stdout) && !contains_control_sequence(&output.stderr),
            "{what}: {}",
            stderr(&output).escape_debug()
        );
    }
    for file in ["logs/rank-0.log", "status.json"] {
        let text = fs::read(output.join(file)).unwrap_or_default();
        assert!(
            !contains_control_sequence(&text),
            "{file}: {}",
            String::from_utf8_lossy(&text).escape_debug()
        );
    }

    let other = folder.path().join("other");
    fs::create_dir_all(other.join("logs")).unwrap();
    fs::write(other.join("logs/rank-0.log"), format!("{ESCAPE}\nlast")).unwrap();
    let status = r#"{"phase":"failed","step":1,"epoch":0,"time":"2026-11-29T17:23:38.020Z","pid":1,"world_size":1,"outcome":"failed","message":"\u001b]0;x\u0007\u009b1m"}"#;
    fs::write(other.join("status.json"), status).unwrap();
    for verb in [&["status"][..], &["status", "--json"], &["logs"]] {
        let messages = run(Command::new(binary("lift")).args(verb).arg(&other));
        assert!(messages.status.success() && !messages.stdout.is_empty(), "{verb:?}: {}", stderr(&messages));
        assert!(
            !contains_control_sequence(&messages.stdout),
            "{verb:?}: {}",
            String::from_utf8_lossy(&messages.stdout).escape_debug()
        );
    }
}

#[test]
fn a_deleted_current_folder_is_reported() {
    for (program, arguments) in
        [("lift-trainer", "check"), ("lift-trainer", "train -o x"), ("lift", "status x")]
    {
        let folder = tempfile::tempdir().unwrap();
        let script = "rmdir \"$PWD\" && exec \"$0\" \"$@\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .arg(binary(program))
            .args(arguments.split(' '))
            .current_dir(folder.path());
        let ended = run(command.stdin(Stdio::null()));
        let messages = stderr(&ended);
        assert_eq!(ended.status.code(), Some(2), "{messages}");
        assert!(messages.contains("the current folder has been deleted"), "{messages}");
    }
}

/// A rank that runs out of memory reports the size of the request and which options to lower.
#[test]
fn running_out_of_memory_is_reported() {
    if !Command::new("prlimit")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|ended| ended.success())
    {
        eprintln!("skipped: running_out_of_memory_is_reported (prlimit is not installed)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = trainer(1);
    command.args([
        "train",
        "--set",
        "train.epochs=1000",
        "--set",
        "train.threads=1",
        "--set",
        "train.batch_size=64",
    ]);
    command
        .args(["--set", "eval.every_epochs=1", "--set", "eval.batch_size=64"])
        .arg("--output")
        .arg(&output);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the first step", Duration::from_mins(2), || steps_done(&output) > 0);
    let pages = fs::read_to_string(format!("/proc/{}/statm", child.id())).unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    let limit = format!("--as={}", pages * 4096);
    assert!(
        Command::new("prlimit").args(["--pid", &child.id().to_string(), &limit]).status().unwrap().success()
    );
    let ended = child.wait_with_output().unwrap();
    let messages = stderr(&ended);
    assert_eq!(ended.status.code(), Some(1), "{messages}");
    assert!(!messages.contains("panicked"), "{messages}");
    let status = json(&output.join("status.json"));
    let explanation = ["message", "hint"].map(|field| status[field].as_str().unwrap_or_default()).join("\n");
    let log = fs::read_to_string(output.join("logs/rank-0.log")).unwrap();
    for text in [messages.as_str(), &explanation, &log] {
        assert!(text.contains("out of memory") && text.contains("(now 64)"), "{text}");
    }
    assert_eq!(status["outcome"], "failed");
}
