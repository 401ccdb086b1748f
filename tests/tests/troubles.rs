//! Ranks that differ, die or hang: one clear message, a non-zero exit code, no remaining processes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests::launched::{ranks, signal};
use tests::stripes::data_beside;
use tests::{binary, checkpoints, json, losses, mpirun, run, stderr, steps_done, succeed, trainer};

/// Two ranks with different arguments; `program` is the program of the second.
fn two_ranks(first: &[&str], second: &[&str], program: &Path) -> Command {
    let mut command = mpirun(1);
    command.env("NO_COLOR", "1").arg(binary("lift-trainer")).arg("train").args(first);
    command.args([":", "-n", "1"]).arg(program).arg("train").args(second);
    command.stdin(Stdio::null());
    command
}

fn refused(command: &mut Command) -> String {
    let output = run(command);
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{messages}");
    messages
}

#[test]
fn another_configuration_on_a_rank_is_reported_with_the_first_difference() {
    let set = |value| ["--set", value, "--set", "train.epochs=0"];
    let program = binary("lift-trainer");
    let mut command = two_ranks(&set("train.seed=1"), &set("train.seed=2"), &program);
    let messages = refused(&mut command);
    assert!(
        messages.contains("rank 1 has another configuration than rank 0: train.seed is 2 there and 1"),
        "{messages}"
    );
}

#[test]
fn another_program_on_a_rank_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    // The program finds its libraries relative to its folder.
    let other = binary("lift-trainer").with_file_name(format!("lift-trainer-other-{}", std::process::id()));
    let mut bytes = std::fs::read(binary("lift-trainer")).unwrap();
    bytes.push(0);
    std::fs::write(&other, bytes).unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = folder.path().join("run").display().to_string();
    let arguments = ["--set", "train.epochs=0", "--output", &output];
    let messages = refused(&mut two_ranks(&arguments, &arguments, &other));
    std::fs::remove_file(&other).unwrap();
    assert!(messages.contains("rank 1 runs another program than rank 0"), "{messages}");
}

#[test]
fn law_7_steps_before_a_failure_of_the_loader_are_saved_and_the_run_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let command = |name: &str, more: &[&str]| {
        let mut command = mpirun(2);
        command
            .env("NO_COLOR", "1")
            .arg(binary("lift-trainer-faults"))
            .args(["train", "-q", "-m", "demo", "-d"]);
        command.arg(data_beside(&path(name))).args([
            "--set",
            "train.epochs=2",
            "--set",
            "train.batch_size=4",
        ]);
        command.args(["--set", "train.threads=1", "--output"]).arg(path(name)).args(more);
        command.stdin(Stdio::null());
        command
    };
    let output = run(command("failed", &[]).env("LIFT_PLANTED", "failed_loader"));
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{messages}");
    assert!(messages.contains("sample 18446744073709551615 was requested, but the split has"), "{messages}");
    assert!(messages.contains("the 3 steps made so far are saved"), "{messages}");
    assert_eq!(steps_done(&path("failed")), 3);
    succeed(&mut command("failed", &["--resume", "auto"]));
    succeed(&mut command("whole", &[]));
    assert_eq!(losses(&path("failed")), losses(&path("whole")));
    let weights =
        ["failed", "whole"].map(|name| std::fs::read(path(name).join("final.safetensors")).unwrap());
    assert!(weights[0] == weights[1], "a resumed run has other weights");
}

#[test]
fn another_data_set_on_a_rank_is_reported_with_the_first_difference() {
    let folder = tempfile::tempdir().unwrap();
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/images/odd/pngsuite_basi0g01.png");
    // The same relative path with different contents, as on hosts with local copies.
    for (host, label) in [("a", 0), ("b", 1)] {
        let root = folder.path().join(host);
        std::fs::create_dir(&root).unwrap();
        std::fs::copy(&picture, root.join("p.png")).unwrap();
        std::fs::write(root.join("train.txt"), format!("p.png 0\np.png 1\np.png {label}\n")).unwrap();
        std::fs::write(root.join("test.txt"), "p.png 1\n").unwrap();
        std::fs::write(root.join("names.txt"), "x\ny\n").unwrap();
        let text = "[data]\nlayout = \"lists\"\nroot = \".\"\ntrain_list = \"train.txt\"\ntest_list = \"test.txt\"\nclass_names = \"names.txt\"\n";
        std::fs::write(root.join("own.toml"), text).unwrap();
        std::fs::create_dir_all(folder.path().join("mounts")).unwrap();
    }
    let link = |host: &str| folder.path().join(host);
    let script = folder.path().join("rank.sh");
    // Each rank sees its own copy at the same path.
    let text = format!(
        "#!/bin/sh\nmount --bind {}/$1 {}/mounts || exit 77\nshift\nexec {} train \"$@\"\n",
        folder.path().display(),
        folder.path().display(),
        binary("lift-trainer").display()
    );
    std::fs::write(&script, text).unwrap();
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!(
            "skipped: another_data_set_on_a_rank_is_reported_with_the_first_difference (the kernel refuses mount name spaces)"
        );
        return;
    }
    let data = link("mounts").join("own.toml").display().to_string();
    let mut command = mpirun(1);
    for (host, more) in [("a", false), ("b", true)] {
        if more {
            command.args([":", "-n", "1"]);
        }
        command.args(["unshare", "-m", "sh"]).arg(&script).arg(host);
        command.args(["-d", &data, "-m", "demo", "--set", "train.epochs=0"]);
    }
    let messages = refused(&mut command);
    assert!(messages.contains("rank 1 has another data set than rank 0"), "{messages}");
    let difference =
        "`training image 2 p.png of class 1` there, `training image 2 p.png of class 0` on rank 0";
    assert!(messages.contains(difference), "{messages}");
}

#[test]
fn an_unknown_backend_lists_the_known_ones() {
    let messages = refused(trainer(2).args(["train", "--set", "distributed.backend=gloo"]));
    assert!(messages.contains("`auto`, `mpi`, `nccl`"), "{messages}");
}

#[test]
fn nccl_without_a_gpu_is_refused() {
    if Path::new("/proc/driver/nvidia/version").exists() {
        eprintln!("skipped: nccl_without_a_gpu_is_refused (this machine has a GPU)");
        return;
    }
    let mut command = trainer(2);
    command.env_remove("NCCL_RS_LIBRARY").args(["train", "--set", "distributed.backend=nccl"]);
    let messages = refused(command.args(["--set", "train.epochs=0"]));
    assert!(messages.contains("error: rank 0: NCCL cannot be used: "), "{messages}");
}

/// Arguments of a run with many short steps on the small data set beside its folder.
fn small_batches(output: &Path) -> Vec<String> {
    let data = data_beside(output).display().to_string();
    let settings =
        ["train.batch_size=16", "train.epochs=1000", "train.threads=1", "head.placement=replicated"];
    let settings = settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]);
    ["-d".to_owned(), data, "-m".to_owned(), "demo".to_owned()].into_iter().chain(settings).collect()
}

/// A run of several minutes.
fn long_run(ranks: usize, output: &Path, settings: &[&str]) -> Command {
    let mut command = trainer(ranks);
    command.args(["train", "-q", "--set", "train.epochs=1000", "--set", "train.threads=1"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.arg("--output").arg(output).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn wait_for_first_steps(child: &mut Child, output: &Path) {
    let start = Instant::now();
    while steps_done(output) == 0 {
        assert!(start.elapsed() < Duration::from_mins(2), "training begins");
        assert!(child.try_wait().unwrap().is_none(), "the run continues");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for the end within a limit; returns the messages.
fn wait_for_end(mut child: Child, limit: Duration, output: &Path) -> String {
    let start = Instant::now();
    let mut pipe = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut pipe, &mut text);
        text
    });
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > limit {
            let _ = Command::new("pkill").args(["-KILL", "-f", &output.display().to_string()]).status();
            let _ = child.kill();
            panic!("still running after {limit:?}: {}", reader.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(!status.success());
    assert!(ranks(output).is_empty(), "no process remains");
    reader.join().unwrap()
}

#[test]
fn a_rank_that_dies_is_reported_and_ends_the_job() {
    for victim in [1, 0] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("run");
        let mut child = long_run(3, &output, &[]).spawn().unwrap();
        wait_for_first_steps(&mut child, &output);
        signal("KILL", &ranks(&output)[&victim]);
        let messages = wait_for_end(child, Duration::from_secs(10), &output);
        assert!(
            messages.contains(&format!("rank {victim} on ")) && messages.contains("died after step"),
            "{messages}"
        );
        let status = json(&output.join("status.json"));
        assert_eq!(status["phase"], "failed", "{status}");
        assert!(status["message"].as_str().unwrap().contains(&format!("rank {victim}")), "{status}");
    }
}

#[test]
fn a_rank_that_stops_answering_is_reported_after_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut child = long_run(2, &output, &["distributed.timeout_seconds=4"]).spawn().unwrap();
    wait_for_first_steps(&mut child, &output);
    signal("STOP", &ranks(&output)[&1]);
    let messages = wait_for_end(child, Duration::from_secs(15), &output);
    assert!(messages.contains("rank 1 on ") && messages.contains("has not answered"), "{messages}");
}

#[test]
fn a_rank_that_is_stopped_before_mpi_init_ends_the_job_after_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = tests::mpirun(2);
    command.args(["sh", "-c", "[ $PMIX_RANK = 0 ] || kill -STOP $$; exec \"$@\"", "sh"]);
    command.arg(binary("lift-trainer")).args(["train", "-q", "--output"]).arg(&output);
    command.env("LIFT_START_SECONDS", "3").stdout(Stdio::null()).stderr(Stdio::piped());
    let messages = wait_for_end(command.spawn().unwrap(), Duration::from_secs(30), &output);
    assert!(messages.contains("rank 0: the start of MPI took longer than 3 s"), "{messages}");
}

/// Replaces NCCL with the stand-in.
fn with_stand_in(command: &mut Command) -> &mut Command {
    let library: PathBuf = binary("libnccl_stand_in.so");
    command.env("NCCL_RS_LIBRARY", &library).env("NCCL_RS_CUDART", &library)
}

#[test]
fn losses_over_the_stand_in_for_nccl_equal_those_over_mpi() {
    let folder = tempfile::tempdir().unwrap();
    let demo = |ranks: usize, backend: &str, name: &str| {
        let path = folder.path().join(name);
        let mut command = trainer(ranks);
        command.args(["train", "-q", "--set", "train.max_steps=20"]).args(small_batches(&path));
        command.arg("--set").arg(format!("distributed.backend={backend}")).arg("--output").arg(&path);
        succeed(with_stand_in(&mut command));
        losses(&path)
    };
    for ranks in [1, 2, 4, 8] {
        let expected = demo(ranks, "mpi", &format!("mpi{ranks}"));
        let found = demo(ranks, "nccl", &format!("nccl{ranks}"));
        assert_eq!(found.len(), 20);
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() <= 1e-6 * b.abs(), "{ranks} ranks: {a}, over MPI {b}");
        }
    }
}

#[test]
fn each_nccl_fault_ends_the_job_with_rank_operation_and_step() {
    for fault in ["hang:1:30", "async_error:1:30", "abort_hang:1:30", "init_fail:1", "init_hang:1"] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("run");
        let settings = [
            "distributed.backend=nccl",
            "distributed.timeout_seconds=5",
            "train.batch_size=16",
            "head.placement=replicated",
        ];
        let mut command = long_run(2, &output, &settings);
        let start = Instant::now();
        let child = with_stand_in(&mut command).env("NCCL_STAND_IN_FAULT", fault).spawn().unwrap();
        // The fault ends the job within fifteen seconds; the start takes longer while other tests run.
        let messages = wait_for_end(child, Duration::from_mins(1), &output);
        println!("{fault}: ended {:.1} s after the start", start.elapsed().as_secs_f64());
        let operation = if fault.starts_with("init") { "init" } else { "all_reduce" };
        let reported = messages
            .lines()
            .any(|line| line.contains("rank ") && line.contains(operation) && line.contains("after step "));
        assert!(reported, "{fault}: {messages}");
    }
}

/// Asserts that the metrics of a run in which a rank skipped a call contain only correct steps before that call.
fn assert_only_steps_before(output: &Path, expected: &[f64], call: u64) {
    let found = losses(output);
    // A step makes two calls: for the gradients, and for the row of scalars.
    assert!(found.len() as u64 <= call.div_ceil(2), "{} steps with call {call} skipped", found.len());
    for (step, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-5 * b.abs(), "loss of step {}: {a}, expected {b}", step + 1);
    }
}

#[test]
fn law_4_a_rank_that_skips_a_call_ends_the_job_with_rank_and_operation() {
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = folder.path().join("undisturbed");
    let mut command = trainer(1);
    command.args(["train", "-q", "--set", "train.max_steps=25"]).args(small_batches(&undisturbed));
    succeed(command.arg("--output").arg(&undisturbed));
    let expected = losses(&undisturbed);
    for (backend, ranks, culprit, call) in
        [("mpi", 2, 1, 20), ("mpi", 3, 2, 41), ("nccl", 2, 1, 21), ("nccl", 2, 0, 20)]
    {
        let output = folder.path().join(format!("{backend}-{ranks}-{culprit}-{call}"));
        let mut command = mpirun(ranks);
        command.env("NO_COLOR", "1").arg(binary("lift-trainer-faults"));
        command.args(["train", "-q"]).args(small_batches(&output));
        command.args(["--set", "distributed.timeout_seconds=5", "--set"]);
        command.arg(format!("distributed.backend={backend}")).arg("--output").arg(&output);
        command.env("LIFT_LEAVE_OUT", format!("{culprit}:{call}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = with_stand_in(&mut command).spawn().unwrap();
        let messages = wait_for_end(child, Duration::from_mins(1), &output);
        let reported = messages.lines().any(|line| {
            line.contains("rank ") && line.contains("all_reduce") && line.contains("after step ")
        });
        assert!(reported, "{backend}, call {call} of rank {culprit}: {messages}");
        assert_only_steps_before(&output, &expected, call);
    }
}

#[test]
fn two_ranks_on_one_gpu_are_refused() {
    let mut command = trainer(2);
    command.args(["train", "--set", "train.epochs=0", "--set", "distributed.backend=nccl"]);
    let messages = refused(with_stand_in(&mut command).env("NCCL_STAND_IN_SAME_GPU", "1"));
    assert!(messages.contains("ranks 0 and 1 share one GPU ("), "{messages}");
    assert!(messages.contains("--gpu-bind=none"), "{messages}");
}

#[test]
fn a_loss_that_is_not_finite_is_reported_with_rank_and_samples() {
    let folder = tempfile::tempdir().unwrap();
    let train = |name: &str, policy: &str| {
        let mut command = trainer(2);
        let output = folder.path().join(name);
        command.args(["train", "-q", "--set", "train.learning_rate=1e20", "--set", "train.max_steps=6"]);
        command.args(["--set", "checkpoint.every_steps=1", "--set", "checkpoint.keep=9"]);
        command.args(small_batches(&output)).arg("--set").arg(format!("train.non_finite={policy}"));
        run(command.arg("--output").arg(output))
    };
    for (policy, last, saved) in [
        ("stop", "set train.non_finite", &[1][..]),
        ("skip", "more than train.max_non_finite=3", &[1, 2, 3, 4]),
        ("rollback", "more than train.max_non_finite=3", &[0, 1, 2, 3, 4]),
    ] {
        let output = train(policy, policy);
        let messages = stderr(&output);
        assert!(!output.status.success(), "{messages}");
        assert!(
            messages.contains("not finite at step 2") && messages.contains("rank 0, samples"),
            "{messages}"
        );
        assert!(messages.contains(last), "{policy}: {messages}");
        // Skipping a step does not skip the checkpoint or evaluation that was due after it.
        let remaining: Vec<u64> =
            checkpoints(&folder.path().join(policy)).into_iter().map(|(_, step)| step).collect();
        assert_eq!(remaining, saved, "{policy}");
    }
}
