//! Durability after power loss: a file is on disk before it is renamed to its final name, the metrics before the
//! checkpoint that refers to them, and all files before the result.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tests::{binary, succeed};

/// A completed system call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Write(PathBuf),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
}

/// The system calls on files of `run`, in the order of their returns.
fn calls(log: &str, run: &Path) -> Vec<Call> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut found = Vec::new();
    for line in log.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some((start, _)) = call.split_once(" <unfinished") {
            begun.insert(thread, start);
            continue;
        }
        let whole = if call.starts_with("<... ") { begun.remove(thread) } else { Some(call) };
        found.extend(whole.and_then(|call| parse(call, run)));
    }
    found
}

/// `write(3</path>, ...`, `fsync(3</path>)`, `renameat(AT_FDCWD</here>, "/from", AT_FDCWD</here>, "to")`.
fn parse(call: &str, run: &Path) -> Option<Call> {
    let (name, rest) = call.split_once('(')?;
    let opened = || {
        let path = PathBuf::from(rest.split_once('<')?.1.split_once('>')?.0);
        path.starts_with(run).then_some(path)
    };
    match name {
        "write" | "writev" | "pwrite64" => Some(Call::Write(opened()?)),
        "fsync" | "fdatasync" => Some(Call::Sync(opened()?)),
        "rename" | "renameat" | "renameat2" => {
            let mut quoted = rest.split('"').skip(1).step_by(2);
            let (from, to) = (PathBuf::from(quoted.next()?), PathBuf::from(quoted.next()?));
            to.starts_with(run).then_some(Call::Rename(from, to))
        }
        _ => None,
    }
}

/// The violations of durability, one sentence each.
fn find_violations(calls: &[Call], run: &Path) -> Vec<String> {
    let (mut dirty, mut violations) = (BTreeSet::new(), Vec::new());
    let metrics = run.join("metrics.jsonl");
    let (mut secured, mut checkpoints) = (0, 0);
    for call in calls {
        match call {
            Call::Write(path) => drop(dirty.insert(path.clone())),
            Call::Sync(path) => {
                dirty.remove(path);
                secured += u32::from(*path == metrics);
            }
            Call::Rename(from, to) => {
                let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name == "status.json" {
                    // No other file depends on the heartbeat.
                    dirty.retain(|path| !path.starts_with(from));
                    continue;
                }
                violations.extend(
                    dirty
                        .iter()
                        .filter(|path| path.starts_with(from))
                        .map(|path| format!("{name} is renamed before {} is on disk", path.display())),
                );
                if name.parse::<u64>().is_ok() {
                    checkpoints += 1;
                    if secured < checkpoints {
                        violations.push(format!("checkpoint {name} refers to metrics that are not on disk"));
                    }
                }
                if name == "result.json" {
                    let free = ["logs", "run.lock"].map(|name| run.join(name));
                    let open = dirty.iter().filter(|path| !free.iter().any(|free| path.starts_with(free)));
                    violations
                        .extend(open.map(|path| format!("a result before {} is on disk", path.display())));
                }
                dirty.insert(to.parent().unwrap_or(run).to_path_buf());
            }
        }
    }
    let names = [run.to_path_buf(), run.join("checkpoints")];
    violations.extend(
        names
            .iter()
            .filter(|folder| dirty.contains(*folder))
            .map(|folder| format!("the entries of {} are not on disk", folder.display())),
    );
    violations
}

#[test]
fn no_file_depends_on_data_that_is_not_on_disk() {
    let may_trace = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if !may_trace.is_ok_and(|status| status.success()) {
        eprintln!(
            "skipped: no_file_depends_on_data_that_is_not_on_disk (strace is missing or not permitted)"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let (run, log) = (root.join("run"), root.join("log"));
    let mut command = Command::new("strace");
    let trace = "trace=write,writev,pwrite64,fsync,fdatasync,rename,renameat,renameat2";
    command.args(["-f", "-y", "-qq", "-s", "0", "-e", trace, "-o"]).arg(&log).arg(binary("lift-trainer"));
    command.args(["train", "-q", "-d", "demo", "-m", "demo", "--method", "classifier"]);
    for setting in
        ["train.threads=1", "train.max_steps=6", "checkpoint.every_steps=2", "checkpoint.best=accuracy"]
    {
        command.args(["--set", setting]);
    }
    succeed(command.arg("--output").arg(&run).env("NO_COLOR", "1").stdin(Stdio::null()));
    let calls = calls(&std::fs::read_to_string(&log).unwrap(), &run);
    // A checkpoint that becomes due while the previous one is written is left out; the first and the last are always there.
    for step in ["00000002", "00000006"] {
        let is_published = |call: &Call| matches!(call, Call::Rename(_, to) if to.ends_with(step));
        assert!(calls.iter().any(is_published), "the trace contains the checkpoint of step {step}");
    }
    assert_eq!(find_violations(&calls, &run), [""; 0]);
    // Without the calls that force data to disk, the check must find violations.
    let without_syncs: Vec<Call> = calls.into_iter().filter(|call| !matches!(call, Call::Sync(_))).collect();
    let violations = find_violations(&without_syncs, &run).join("\n");
    for sentence in
        ["tensors.safetensors is on disk", "refers to metrics", "a result before", "the entries of"]
    {
        assert!(violations.contains(sentence), "{sentence}: {violations}");
    }
}
