//! `lift run` with real processes: restarts, signals, unreachable hosts; no process may remain.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use protocol::{Outcome, Phase, Status};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tests::launched::{
    assert_same_result, code, lift, processes_of, ranks, signal, starts, training, wait_for,
    wait_for_checkpoint, wait_for_step,
};
use tests::{run, stderr};

const SOON: Duration = Duration::from_secs(20);

fn lift_run(ranks: usize, options: &[&str], output: &Path) -> Command {
    let mut command = lift();
    command.args(["run", "-n", &ranks.to_string(), "--restart-pause", "0.05"]).args(options);
    command.args(["--", "train", "--output"]).arg(output);
    command.env("FAKE_STEP_SECONDS", "0.01");
    command
}

/// Starts a run of several minutes in its own process group, like a terminal.
fn start_long_run(ranks: usize, options: &[&str], output: &Path) -> Child {
    let mut command = lift_run(ranks, options, output);
    command.env("FAKE_STEPS", "5000").stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().unwrap()
}

fn assert_no_process_remains(folder: &Path) {
    wait_for("the end of all processes", Duration::from_secs(5), || processes_of(folder).is_empty());
}

#[test]
fn a_run_that_fails_twice_restarts_until_it_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = lift_run(2, &["--restarts", "3", "--json"], &output);
    let ended = run(command.env("FAKE_FAIL", "1 3 KILL 2").env("FAKE_STEPS", "10"));
    assert_eq!(ended.status.code(), Some(0), "{}", stderr(&ended));
    let events: Vec<Value> = String::from_utf8_lossy(&ended.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("every line is JSON"))
        .collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let once = ["start", "end", "restart"];
    assert_eq!(names, [&once[..], &once[..], &["start", "end", "finish"][..]].concat());
    assert_eq!(events[1]["rank"], 1);
    assert_eq!(events[1]["how"], "signal 9 (Killed)");
    assert_eq!(events[8]["restarts"], 2);
    let line = format!("train --output {}", output.display());
    let expected =
        [format!("0 {line}"), format!("1 {line} --resume auto"), format!("2 {line} --resume auto")];
    assert_eq!(starts(&output), expected);
    assert_eq!(Status::read(&output).unwrap().step, 10);
    assert_no_process_remains(folder.path());
}

#[test]
fn two_starts_without_a_checkpoint_end_the_job_and_show_the_log_of_the_failed_rank() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let ended = run(lift_run(1, &["--restarts", "9"], &output).env("FAKE_FAIL", "0 0 7 99"));
    assert_eq!(ended.status.code(), Some(1));
    let messages = stderr(&ended);
    assert_eq!(starts(&output).len(), 2, "{messages}");
    assert!(
        messages.contains(
            "not started again: two starts in a row gained no checkpoint (the newest is of step 0)"
        ),
        "{messages}"
    );
    assert!(messages.contains("lift: failed: rank 0 failed in step 0"), "{messages}");
    assert!(messages.contains("rank=0: injected failure: 7"), "{messages}");
}

#[test]
fn the_rank_that_failed_first_is_reported_with_its_last_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (output, logs) = (folder.path().join("run"), folder.path().join("streams"));
    let options = ["--logs", logs.to_str().unwrap()];
    let ended = run(lift_run(2, &options, &output).env("FAKE_FAIL", "1 2 7 9"));
    let messages = stderr(&ended);
    assert_eq!(ended.status.code(), Some(1));
    assert!(messages.contains("lift: rank 1 failed first: exit code 7"), "{messages}");
    assert!(messages.contains("/rank.1/stderr:\n    the fake fails on rank 1"), "{messages}");
    assert!(messages.contains("not started again; --restarts N would"), "{messages}");
}

#[test]
fn wrong_input_does_not_restart() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let ended = run(lift_run(2, &["--restarts", "9"], &output).env("FAKE_REFUSE", "1"));
    assert_eq!(ended.status.code(), Some(2));
    assert_eq!(stderr(&ended).matches("the fake refuses").count(), 2, "once from each of two ranks");
}

#[test]
fn ctrl_c_at_the_terminal_saves_and_ends() {
    for ranks in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("run");
        let mut child = start_long_run(ranks, &["--restarts", "9"], &output);
        wait_for_step(&output, 2);
        signal("INT", &format!("-{}", child.id()));
        assert_eq!(code(&mut child, Duration::from_secs(8)), Some(130), "{ranks} ranks");
        assert_eq!(Status::read(&output).unwrap().outcome, Some(Outcome::Interrupted));
        assert_eq!(starts(&output).len(), 1);
        assert_no_process_remains(folder.path());
    }
}

#[test]
fn a_second_ctrl_c_ends_ranks_that_ignore_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = lift_run(2, &["--restarts", "9"], &output);
    command.env("FAKE_STEPS", "5000").env("FAKE_DEAF", "1").stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_for_step(&output, 2);
    for _ in 0..2 {
        signal("INT", &child.id().to_string());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(code(&mut child, Duration::from_secs(3)), Some(130));
    assert_no_process_remains(folder.path());
}

#[test]
fn term_and_usr1_save_all_ranks_and_end_with_75() {
    for (ranks, name) in [(1, "TERM"), (2, "TERM"), (2, "USR1"), (2, "HUP")] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("run");
        let mut child = start_long_run(ranks, &["--restarts", "9"], &output);
        wait_for_step(&output, 2);
        signal(name, &child.id().to_string());
        assert_eq!(code(&mut child, SOON), Some(75), "{name} on {ranks} ranks");
        let status = Status::read(&output).unwrap();
        assert_eq!((status.phase, starts(&output).len()), (Phase::Preempted, 1));
        assert_no_process_remains(folder.path());
    }
}

#[test]
fn ranks_that_receive_a_signal_directly_save_and_restart() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = lift_run(1, &["--restarts", "2"], &output);
    let mut child = command.env("FAKE_STEPS", "60").stdout(Stdio::null()).spawn().unwrap();
    wait_for_step(&output, 3);
    signal("USR1", &Status::read(&output).unwrap().pid.to_string());
    assert_eq!(code(&mut child, SOON), Some(0));
    assert_eq!(starts(&output).len(), 2);
}

#[test]
fn kill_9_of_lift_leaves_no_process() {
    for ranks in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("run");
        let mut child = start_long_run(ranks, &[], &output);
        wait_for_step(&output, 2);
        signal("KILL", &child.id().to_string());
        child.wait().unwrap();
        assert_no_process_remains(folder.path());
    }
}

#[test]
fn a_run_under_nohup_survives_the_end_of_its_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = Command::new("nohup");
    let inner = lift_run(1, &[], &output);
    // Without the wrapper of `lift()` that resets ignored signals.
    let arguments = inner.get_args().skip(1);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap());
    }
    let mut child = command.spawn().unwrap();
    wait_for_step(&output, 2);
    signal("HUP", &child.id().to_string());
    assert_eq!(code(&mut child, SOON), Some(0));
}

/// Child processes of `lift`: `mpirun`, or the single rank.
fn children(lift: &Child) -> Vec<String> {
    let path = format!("/proc/{0}/task/{0}/children", lift.id());
    std::fs::read_to_string(path).unwrap().split_whitespace().map(str::to_owned).collect()
}

fn signal_all(name: &str, processes: &[String]) {
    for process in processes {
        signal(name, process);
    }
}

/// Child processes of `mpirun`: the ranks, in order.
fn rank_processes(lift: &Child) -> Vec<String> {
    let rank = |pid: &String| {
        let variables = std::fs::read_to_string(format!("/proc/{pid}/environ")).ok()?;
        let number = variables.split('\0').find_map(|variable| variable.strip_prefix("PMIX_RANK="))?;
        Some((number.parse::<usize>().ok()?, pid.clone()))
    };
    let mpirun = &children(lift)[0];
    let below = Command::new("pgrep").args(["-P", mpirun]).output().unwrap();
    let below = String::from_utf8(below.stdout).unwrap();
    let mut ranks: Vec<_> = below.lines().map(str::to_owned).filter_map(|pid| rank(&pid)).collect();
    ranks.sort();
    ranks.into_iter().map(|(_, pid)| pid).collect()
}

#[test]
fn a_stopped_process_is_reported_and_the_run_restarts() {
    for (ranks, says) in
        [(1, "lift: failed: a signal stopped trainer.sh ("), (2, "lift: failed: a signal stopped mpirun")]
    {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("run");
        let mut command = lift_run(ranks, &["--restarts", "1", "--stopped-seconds", "2"], &output);
        command.env("FAKE_STEPS", "3000").stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        wait_for_step(&output, 2);
        signal_all("STOP", &children(&child));
        wait_for("the restart", SOON, || starts(&output).len() == 2);
        let before = Status::read(&output).unwrap().step;
        wait_for_step(&output, before + 2);
        signal("TERM", &child.id().to_string());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(75), "{}", stderr(&ended));
        assert!(stderr(&ended).contains(says), "{}", stderr(&ended));
        assert_no_process_remains(folder.path());
    }
}

#[test]
fn a_stopped_rank_is_reported_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = lift_run(2, &["--stopped-seconds", "1"], &output);
    command.env("FAKE_STEPS", "5000").stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for_step(&output, 2);
    signal("STOP", &rank_processes(&child)[1]);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", stderr(&ended));
    assert!(stderr(&ended).contains("lift: rank 1 failed first: a signal stopped "), "{}", stderr(&ended));
    assert_no_process_remains(folder.path());
}

#[test]
fn a_job_that_is_stopped_as_a_whole_continues() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut child = start_long_run(2, &["--stopped-seconds", "4"], &output);
    wait_for_step(&output, 2);
    let below = [children(&child), rank_processes(&child)].concat();
    // The launcher sees its ranks stopped before it is stopped itself and after it continues, in total for longer
    // than its limit.
    signal_all("STOP", &below);
    std::thread::sleep(Duration::from_millis(2500));
    signal("STOP", &child.id().to_string());
    std::thread::sleep(Duration::from_millis(2500));
    signal("CONT", &child.id().to_string());
    std::thread::sleep(Duration::from_millis(2500));
    signal_all("CONT", &below);
    let before = Status::read(&output).unwrap().step;
    wait_for_step(&output, before + 2);
    signal("TERM", &child.id().to_string());
    assert_eq!(code(&mut child, SOON), Some(75));
    assert_no_process_remains(folder.path());
}

/// A replacement for ssh that runs commands on this machine, unless a file marks the host as unreachable.
fn write_fake_ssh(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("reach");
    let gone = folder.join("gone");
    let text = format!(
        "#!/bin/sh\nhost=$1; shift\n[ -e '{}'-$host ] && exit 255\nexec sh -c \"$*\"\n",
        gone.display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn an_unreachable_host_is_skipped_while_enough_ranks_remain() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let ssh = write_fake_ssh(folder.path());
    std::fs::write(folder.path().join("gone-two"), "").unwrap();
    let hosts = ["--hosts", "one:2,two:2", "--restarts", "1", "--elastic"];
    let elastic = |least: &str| {
        let mut command = lift();
        command
            .arg("run")
            .args(hosts)
            .args([least, "--restart-pause", "0.05", "--", "train", "--output"])
            .arg(&output);
        run(command.env("LIFT_SSH", &ssh).env("FAKE_STEP_SECONDS", "0.01"))
    };
    let ended = elastic("3");
    assert_eq!(ended.status.code(), Some(1), "{}", stderr(&ended));
    assert!(stderr(&ended).contains("too few hosts answer"), "{}", stderr(&ended));
    assert!(stderr(&ended).contains("not started again after 1 of 1 restarts"), "{}", stderr(&ended));
    let ended = elastic("2");
    assert_eq!(ended.status.code(), Some(0), "{}", stderr(&ended));
    assert!(stderr(&ended).contains("lift: two does not answer; 2 ranks are left"), "{}", stderr(&ended));
    assert_eq!(Status::read(&output).unwrap().world_size, 2);
    std::fs::remove_file(folder.path().join("gone-two")).unwrap();
    std::fs::remove_dir_all(&output).unwrap();
    let ended = elastic("2");
    assert_eq!(ended.status.code(), Some(0), "{}", stderr(&ended));
    assert_eq!(Status::read(&output).unwrap().world_size, 4);
}

#[test]
fn restarts_wait_for_a_host_that_returns_late() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let gone = folder.path().join("gone-two");
    std::fs::write(&gone, "").unwrap();
    let mut command = lift();
    command.args([
        "run",
        "--hosts",
        "one:1,two:1",
        "--restarts",
        "99",
        "--elastic",
        "2",
        "--restart-pause",
        "0.1",
    ]);
    command.args(["--", "train", "--output"]).arg(&output).env("LIFT_SSH", write_fake_ssh(folder.path()));
    let log = folder.path().join("log");
    let mut child =
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let messages = || std::fs::read_to_string(&log).unwrap();
    wait_for("starts without the host", SOON, || {
        messages().matches("lift: failed: too few hosts answer").count() > 3
    });
    std::fs::remove_file(gone).unwrap();
    assert_eq!(code(&mut child, Duration::from_mins(1)), Some(0), "{}", messages());
}

#[test]
fn a_request_to_stop_during_the_host_check_starts_no_rank() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let asking = folder.path().join("asking");
    let ssh = folder.path().join("reach");
    std::fs::write(&ssh, format!("#!/bin/sh\ntouch '{}'\nsleep 2\n", asking.display())).unwrap();
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (name, expected) in [("TERM", 75), ("INT", 130)] {
        let mut command = lift();
        command.args(["run", "--hosts", "one:1,two:1", "--restarts", "9", "--elastic", "1", "--"]);
        command.args(["train", "--output"]).arg(&output).env("LIFT_SSH", &ssh);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("asking", SOON, || asking.exists());
        signal(name, &child.id().to_string());
        assert_eq!(code(&mut child, SOON), Some(expected), "{name}");
        assert!(!output.exists());
        std::fs::remove_file(&asking).unwrap();
    }
}

#[test]
fn ctrl_c_with_only_remote_ranks_exits_with_130() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = lift();
    command
        .args(["run", "--hosts", "one:1,two:1", "--restarts", "9", "--", "train", "--output"])
        .arg(&output);
    command.env("LIFT_SSH", write_fake_ssh(folder.path())).env("FAKE_STEPS", "5000");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_step(&output, 2);
    signal("INT", &child.id().to_string());
    assert_eq!(code(&mut child, SOON), Some(130));
    assert_eq!(
        Status::read(&output).unwrap().phase,
        Phase::Preempted,
        "the ranks received the request to save"
    );
    assert_no_process_remains(folder.path());
}

/// The ranks ignore the first request to stop.
#[test]
fn ranks_that_do_not_end_receive_the_request_again() {
    let folder = tempfile::tempdir().unwrap();
    let (trainer, ready) = (folder.path().join("trainer"), folder.path().join("ready"));
    let text = "#!/bin/bash\ntrap 'count=$((count + 1))' USR2\ntouch \"${0%/*}/ready\"\n\
        while ((count < 2)); do sleep 0.1; done\nexit 75\n";
    std::fs::write(&trainer, text).unwrap();
    std::fs::set_permissions(&trainer, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = lift_run(1, &[], &folder.path().join("run"));
    let mut child = command.env("LIFT_TRAINER", trainer).spawn().unwrap();
    wait_for("the trainer", SOON, || ready.exists());
    signal("TERM", &child.id().to_string());
    assert_eq!(code(&mut child, SOON), Some(75));
}

#[test]
fn contradicting_options_are_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    for (options, sentence) in [
        (
            vec!["-n", "5", "--hosts", "a:2,b:2"],
            "-n 5 is more than the 4 ranks that the hosts take\nhint: raise their numbers, e.g. --hosts a:5",
        ),
        (
            vec!["--elastic", "1"],
            "--elastic continues with the hosts that are left; it needs --hosts or --hostfile with two or more",
        ),
        (
            vec!["--hosts", "a:2,b:2", "--elastic", "1"],
            "--elastic needs --restarts: a lost host ends the ranks, and a restart continues without it",
        ),
        (
            vec!["-n", "2", "--gpus", "0"],
            "--gpus 0 names 1 device for 2 ranks on a host; each rank needs its own",
        ),
        (
            vec!["--hosts", "x:99999999999"],
            "`x:99999999999` in --hosts asks for more than 1024 ranks on one host\nhint: correct the number",
        ),
        (vec!["-n", "2", "--gpus", "0,0"], "--gpus 0,0 names device 0 twice; each rank needs its own"),
        (
            vec!["-n", "1", "--gpus", "99999999999"],
            "`99999999999` in --gpus 99999999999 is not a device; expected e.g. --gpus 0,1",
        ),
        (
            vec!["--gpus", "0", "--gpus-per-rank", "0"],
            "--gpus has no effect with --gpus-per-rank 0\nhint: leave one of them out",
        ),
        (
            vec!["--restarts", "1", "--", "eval", "--run", "x"],
            "--restarts is for training: `lift-trainer train`, or nothing for the embedded demo",
        ),
        (
            vec!["--restarts", "1", "--", "train", "--resume", "never"],
            "--restarts resumes the run, which --resume never forbids\nhint: leave one of them out",
        ),
    ] {
        let ended =
            run(lift().current_dir(folder.path()).env_remove("SLURM_JOB_ID").arg("run").args(&options));
        assert_eq!((ended.status.code(), stderr(&ended)), (Some(2), format!("error: {sentence}\n")));
    }
    let ended = run(lift().arg("run").env("LIFT_TRAINER", "/nowhere/lift-trainer"));
    assert_eq!(
        (ended.status.code(), stderr(&ended)),
        (Some(2), "error: /nowhere/lift-trainer does not exist or is not a program\nhint: build it with `make build`, or set LIFT_TRAINER\n".into())
    );
}

#[test]
fn arguments_that_the_trainer_refuses_start_no_rank() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["run", "-n", "2"][..], &["render"], &["submit"]] {
        let mut command = lift();
        command.args(arguments).args(["--", "train", "--outptu", "run"]).current_dir(folder.path());
        let ended = run(&mut command);
        assert_eq!(ended.status.code(), Some(2));
        let messages = stderr(&ended);
        assert!(messages.starts_with("error: unexpected argument '--outptu' found\n"), "{messages}");
        assert!(messages.contains("Usage: lift-trainer train "), "{messages}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn absurd_numbers_start_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "a slots=4\nb slots=99999999999\n").unwrap();
    let started = folder.path().join("started");
    let mpirun = folder.path().join("mpirun");
    std::fs::write(&mpirun, format!("#!/bin/sh\ntouch {}\n", started.display())).unwrap();
    std::fs::set_permissions(&mpirun, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (options, part) in [
        (vec!["-n", "99999999999"], "99999999999"),
        (vec!["-n", "100000"], "100000 ranks are more than this machine is meant for"),
        (vec!["--hosts", "localhost:1024"], "1024 ranks are more than this machine is meant for"),
        (vec!["--hosts", "a:4,b:99999999999"], "`b:99999999999` in --hosts"),
        (vec!["--hostfile", hosts.to_str().unwrap()], "`b slots=99999999999` in line 2"),
        (vec!["--threads", "99999"], "99999"),
        (vec!["--restarts", "4294967295"], "4294967295"),
        (vec!["--restart-pause", "1e15"], "at most 86400"),
        (vec!["--restart-pause", "inf"], "at most 86400"),
        (vec!["--restart-pause", "-1"], "-1"),
    ] {
        let mut command = lift();
        for name in ["SLURM_JOB_ID", "PBS_NODEFILE", "LSB_JOBID", "PE_HOSTFILE", "FLUX_JOB_ID"] {
            command.env_remove(name);
        }
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let ended = run(command.env("PATH", path).current_dir(folder.path()).arg("run").args(&options));
        let messages = stderr(&ended);
        assert_eq!(ended.status.code(), Some(2), "{options:?}: {messages}");
        assert!(
            messages.contains(part) && messages.matches("error:").count() == 1,
            "{options:?}: {messages}"
        );
    }
    assert!(!started.exists(), "no rank starts");
}

/// With the real trainer and MPI: Ctrl-C reaches the ranks, and the ranks end with a killed launcher.
#[test]
fn the_real_trainer_saves_on_term_and_ends_with_a_killed_lift() {
    for (name, expected) in [("TERM", Some(75)), ("INT", Some(130)), ("KILL", None)] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("run");
        let mut command = lift_run(2, &["--threads", "1"], &output);
        command.args(["--set", "train.epochs=1000"]).env("LIFT_TRAINER", tests::binary("lift-trainer"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("training", Duration::from_mins(1), || {
            std::fs::read_to_string(output.join("metrics.jsonl")).is_ok_and(|text| text.contains("\"step\""))
        });
        signal(name, &child.id().to_string());
        assert_eq!(code(&mut child, SOON), expected, "{name}");
        assert_no_process_remains(folder.path());
    }
}

/// `lift run` with the real trainer in this folder, on the short training whose result does not depend on
/// interruptions.
fn real_run(folder: &Path, options: &[&str], arguments: &[String]) -> Command {
    let mut command = lift();
    command.arg("run").args(options).args(["--restart-pause", "0.05", "--"]).args(arguments);
    command.current_dir(folder).env("LIFT_TRAINER", tests::binary("lift-trainer"));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn a_killed_rank_does_not_change_the_result() {
    let folder = tempfile::tempdir().unwrap();
    tests::succeed(&mut real_run(folder.path(), &["-n", "2"], &training("undisturbed", 40)));
    let output = folder.path().join("run");
    let child =
        real_run(folder.path(), &["-n", "2", "--restarts", "3"], &training("run", 40)).spawn().unwrap();
    wait_for_checkpoint(&output, 10);
    signal("KILL", &ranks(folder.path())[&1]);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", stderr(&ended));
    assert!(stderr(&ended).contains("lift: restart 1 of 3 in 0.05 s, from step "), "{}", stderr(&ended));
    assert_same_result(&folder.path().join("undisturbed"), &output);
    assert_no_process_remains(folder.path());
}

#[test]
fn a_lost_host_does_not_change_the_result_under_any_world() {
    let folder = tempfile::tempdir().unwrap();
    let any_world = |output: &str| -> Vec<String> {
        training(output, 40).iter().map(|word| word.replace("same_world", "any_world")).collect()
    };
    tests::succeed(&mut real_run(folder.path(), &["-n", "2"], &any_world("undisturbed")));
    let output = folder.path().join("run");
    let options = ["--hosts", "one:1,two:1", "--restarts", "1", "--elastic", "1"];
    let mut command = real_run(folder.path(), &options, &any_world("run"));
    command.env("LIFT_SSH", write_fake_ssh(folder.path()));
    // Both hosts are this machine, so the shared memory of Open MPI would confuse their ranks.
    command.env("OMPI_MCA_btl", "self,tcp").env("PMIX_MCA_gds", "hash");
    let child = command.spawn().unwrap();
    wait_for_checkpoint(&output, 10);
    std::fs::write(folder.path().join("gone-two"), "").unwrap();
    signal("KILL", &ranks(folder.path())[&1]);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", stderr(&ended));
    assert!(stderr(&ended).contains("lift: two does not answer; 1 rank is left"), "{}", stderr(&ended));
    assert_eq!(Status::read(&output).unwrap().world_size, 1);
    assert_same_result(&folder.path().join("undisturbed"), &output);
}
