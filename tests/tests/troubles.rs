//! Ranks that were started differently, die or hang: one clear message, a non-zero end, nothing left running.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests::launched::{ranks, signal};
use tests::stripes::data_beside;
use tests::{binary, checkpoints, json, losses, mpirun, run, stderr, steps_done, succeed, trainer};

/// Two ranks with arguments of their own, and the program of the second.
fn two_kinds(first: &[&str], second: &[&str], program: &Path) -> Command {
    let mut command = mpirun(1);
    command.env("NO_COLOR", "1").arg(binary("lift-trainer")).arg("train").args(first);
    command.args([":", "-n", "1"]).arg(program).arg("train").args(second);
    command.stdin(Stdio::null());
    command
}

fn refused(command: &mut Command) -> String {
    let output = run(command);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

#[test]
fn another_configuration_on_a_rank_is_named_with_the_first_difference() {
    let set = |value| ["--set", value, "--set", "train.epochs=0"];
    let program = binary("lift-trainer");
    let mut command = two_kinds(&set("train.seed=1"), &set("train.seed=2"), &program);
    let said = refused(&mut command);
    assert!(
        said.contains("rank 1 has another configuration than rank 0: train.seed is 2 there and 1"),
        "{said}"
    );
}

#[test]
fn another_program_on_a_rank_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // The program finds its libraries from where it lies.
    let other = binary("lift-trainer").with_file_name(format!("lift-trainer-other-{}", std::process::id()));
    let mut bytes = std::fs::read(binary("lift-trainer")).unwrap();
    bytes.push(0);
    std::fs::write(&other, bytes).unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = folder.path().join("run").display().to_string();
    let arguments = ["--set", "train.epochs=0", "--output", &output];
    let said = refused(&mut two_kinds(&arguments, &arguments, &other));
    std::fs::remove_file(&other).unwrap();
    assert!(said.contains("rank 1 runs another program than rank 0"), "{said}");
}

#[test]
fn another_data_set_on_a_rank_is_named_with_the_first_difference() {
    let folder = tempfile::tempdir().unwrap();
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/images/odd/pngsuite_basi0g01.png");
    // The same relative place, other contents, as on hosts with local copies.
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
            "skipped: another_data_set_on_a_rank_is_named_with_the_first_difference (no mount name spaces here)"
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
    let said = refused(&mut command);
    assert!(said.contains("rank 1 has another data set than rank 0"), "{said}");
    let difference =
        "`training image 2 p.png of class 1` there, `training image 2 p.png of class 0` on rank 0";
    assert!(said.contains(difference), "{said}");
}

#[test]
fn an_unknown_backend_names_the_known_ones() {
    let said = refused(trainer(2).args(["train", "--set", "distributed.backend=gloo"]));
    assert!(said.contains("`auto`, `mpi`, `nccl`"), "{said}");
}

#[test]
fn nccl_without_a_gpu_says_what_it_needs() {
    if Path::new("/proc/driver/nvidia/version").exists() {
        eprintln!("skipped: nccl_without_a_gpu_says_what_it_needs (this machine has a GPU)");
        return;
    }
    let mut command = trainer(2);
    command.env_remove("NCCL_RS_LIBRARY").args(["train", "--set", "distributed.backend=nccl"]);
    let said = refused(command.args(["--set", "train.epochs=0"]));
    assert!(said.contains("error: rank 0: NCCL cannot be used: "), "{said}");
}

/// What makes a run on the small data set, which is made beside its folder, of as many short steps as it is let.
fn small_batches(output: &Path) -> Vec<String> {
    let data = data_beside(output).display().to_string();
    let settings =
        ["train.batch_size=16", "train.epochs=1000", "train.threads=1", "head.placement=replicated"];
    let settings = settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]);
    ["-d".to_owned(), data, "-m".to_owned(), "demo".to_owned()].into_iter().chain(settings).collect()
}

/// A run that goes on for minutes.
fn long_run(ranks: usize, output: &Path, settings: &[&str]) -> Command {
    let mut command = trainer(ranks);
    command.args(["train", "-q", "--set", "train.epochs=1000", "--set", "train.threads=1"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.arg("--output").arg(output).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn after_first_steps(child: &mut Child, output: &Path) {
    let start = Instant::now();
    while steps_done(output) == 0 {
        assert!(start.elapsed() < Duration::from_mins(2), "training begins");
        assert!(child.try_wait().unwrap().is_none(), "the run goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for the end within a limit; gives what was said.
fn ends_within(mut child: Child, limit: Duration, output: &Path) -> String {
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
    assert!(ranks(output).is_empty(), "nothing is left running");
    reader.join().unwrap()
}

#[test]
fn a_rank_that_dies_ends_the_job_under_its_name() {
    for victim in [1, 0] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("run");
        let mut child = long_run(3, &output, &[]).spawn().unwrap();
        after_first_steps(&mut child, &output);
        signal("KILL", &ranks(&output)[&victim]);
        let said = ends_within(child, Duration::from_secs(10), &output);
        assert!(said.contains(&format!("rank {victim} on ")) && said.contains("died after step"), "{said}");
        let status = json(&output.join("status.json"));
        assert_eq!(status["phase"], "failed", "{status}");
        assert!(status["message"].as_str().unwrap().contains(&format!("rank {victim}")), "{status}");
    }
}

#[test]
fn a_rank_that_stops_answering_is_named_after_the_time_out() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut child = long_run(2, &output, &["distributed.timeout_seconds=4"]).spawn().unwrap();
    after_first_steps(&mut child, &output);
    signal("STOP", &ranks(&output)[&1]);
    let said = ends_within(child, Duration::from_secs(15), &output);
    assert!(said.contains("rank 1 on ") && said.contains("has not answered"), "{said}");
}

#[test]
fn a_rank_that_is_stopped_before_mpi_has_started_does_not_hold_up_the_others_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = tests::mpirun(2);
    command.args(["sh", "-c", "[ $PMIX_RANK = 0 ] || kill -STOP $$; exec \"$@\"", "sh"]);
    command.arg(binary("lift-trainer")).args(["train", "-q", "--output"]).arg(&output);
    command.env("LIFT_START_SECONDS", "3").stdout(Stdio::null()).stderr(Stdio::piped());
    let said = ends_within(command.spawn().unwrap(), Duration::from_secs(30), &output);
    assert!(said.contains("rank 0: the start of MPI took longer than 3 s"), "{said}");
}

/// The environment that puts the stand-in in NCCL's place.
fn with_stand_in(command: &mut Command) -> &mut Command {
    let library: PathBuf = binary("libnccl_stand_in.so");
    command.env("NCCL_RS_LIBRARY", &library).env("NCCL_RS_CUDART", &library)
}

#[test]
fn over_the_stand_in_for_nccl_losses_are_those_over_mpi() {
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
fn each_fault_of_nccl_ends_the_job_with_rank_operation_and_step() {
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
        // Fifteen seconds from the fault; the start before it, with other tests beside it, takes its own time.
        let said = ends_within(child, Duration::from_mins(1), &output);
        println!("{fault}: ended {:.1} s after the start", start.elapsed().as_secs_f64());
        let operation = if fault.starts_with("init") { "init" } else { "all_reduce" };
        let named = said
            .lines()
            .any(|line| line.contains("rank ") && line.contains(operation) && line.contains("after step "));
        assert!(named, "{fault}: {said}");
    }
}

/// What the metrics hold of a run in which a rank left out a call is what was computed before it.
fn nothing_was_computed_after(output: &Path, expected: &[f64], call: u64) {
    let found = losses(output);
    // A step is two calls: the gradients', and the row of scalars'.
    assert!(found.len() as u64 <= call.div_ceil(2), "{} steps with call {call} left out", found.len());
    for (step, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-5 * b.abs(), "loss of step {}: {a}, expected {b}", step + 1);
    }
}

#[test]
fn law_4_a_rank_that_leaves_out_a_call_ends_the_job_with_rank_and_operation() {
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
        let said = ends_within(child, Duration::from_mins(1), &output);
        let named = said.lines().any(|line| {
            line.contains("rank ") && line.contains("all_reduce") && line.contains("after step ")
        });
        assert!(named, "{backend}, call {call} of rank {culprit}: {said}");
        nothing_was_computed_after(&output, &expected, call);
    }
}

#[test]
fn two_ranks_on_one_gpu_are_refused() {
    let mut command = trainer(2);
    command.args(["train", "--set", "train.epochs=0", "--set", "distributed.backend=nccl"]);
    let said = refused(with_stand_in(&mut command).env("NCCL_STAND_IN_SAME_GPU", "1"));
    assert!(said.contains("ranks 0 and 1 share one GPU ("), "{said}");
    assert!(said.contains("--gpu-bind=none"), "{said}");
}

#[test]
fn a_loss_that_is_not_finite_is_named_with_rank_and_samples() {
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
        let said = stderr(&output);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("not finite at step 2") && said.contains("rank 0, samples"), "{said}");
        assert!(said.contains(last), "{policy}: {said}");
        // A step that is left out takes nothing with it that was due after it.
        let left: Vec<u64> =
            checkpoints(&folder.path().join(policy)).into_iter().map(|(_, step)| step).collect();
        assert_eq!(left, saved, "{policy}");
    }
}
