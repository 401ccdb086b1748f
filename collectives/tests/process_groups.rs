//! Process groups over real ranks: correct results, and the outcome of each fault.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Maximum time from the start of the ranks to their end after a fault.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The folder of the build profile: this test is in PROFILE/deps.
fn build_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    test.ancestors().nth(2).expect("tests lie in PROFILE/deps").to_owned()
}

/// A file of this build. Cargo does not build the stand-in and the example for a single test, so this builds them.
fn built(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "nccl-stand-in", "-p", "collectives", "--lib"]);
        cargo.args(["--example", "group_check"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if build_folder().ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo starts").success(), "stand-in and example do not build");
    });
    let file = build_folder().join(name);
    assert!(file.exists(), "{} is missing", file.display());
    file
}

/// Tests that compute run alone, because their ranks use all cores; tests of faults mostly wait and run concurrently.
static CORES: RwLock<()> = RwLock::new(());

fn mpirun(ranks: usize) -> Command {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.mpi/bin/mpirun");
    let mut command = Command::new(if bundled.exists() { bundled } else { PathBuf::from("mpirun") });
    command.args(["--oversubscribe", "--bind-to", "none", "-n", &ranks.to_string()]);
    for variable in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
        command.env(variable, "1").env(variable.replace("OMPI", "PRTE"), "1");
    }
    command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none").env("OMP_NUM_THREADS", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Output and duration of a run.
struct RunOutput {
    output: Output,
    stdout: String,
    stderr: String,
    time: Duration,
}

/// Runs `group_check`. A unique environment variable marks the ranks, to find processes that outlive the run.
fn group_check(ranks: usize, arguments: [&str; 2], variables: &[(&str, &str)]) -> RunOutput {
    let (_exclusive, _shared) = if arguments[1] == "check" {
        (Some(CORES.write().unwrap_or_else(PoisonError::into_inner)), None)
    } else {
        (None, Some(CORES.read().unwrap_or_else(PoisonError::into_inner)))
    };
    let marker = format!("{}-{:?}", std::process::id(), Instant::now());
    let mut command = mpirun(ranks);
    command.arg(built("examples/group_check")).args(arguments);
    command.env("GROUP_CHECK_MARK", &marker).envs(variables.iter().copied());
    let begin = Instant::now();
    let output = command.output().expect("mpirun starts");
    let time = begin.elapsed();
    assert_all_ended(&marker);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    RunOutput { stdout: text(&output.stdout), stderr: text(&output.stderr), output, time }
}

/// Waits until no process with the marker runs, and fails if one remains.
fn assert_all_ended(marker: &str) {
    let begin = Instant::now();
    loop {
        let remaining = processes_with(marker);
        if remaining.is_empty() {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(3), "processes are left: {remaining:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn processes_with(marker: &str) -> Vec<PathBuf> {
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    folders
        .filter(|folder| {
            let environment = std::fs::read(folder.join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(marker)
        })
        .collect()
}

fn with_stand_in(ranks: usize, mode: &str, variables: &[(&str, &str)]) -> RunOutput {
    let file = built("libnccl_stand_in.so").display().to_string();
    let mut all = vec![("NCCL_RS_LIBRARY", file.as_str()), ("NCCL_RS_CUDART", file.as_str())];
    all.extend_from_slice(variables);
    group_check(ranks, ["nccl", mode], &all)
}

/// Runs a fault of the stand-in, and asserts that the job fails before the timeout.
fn run_fault(ranks: usize, mode: &str, fault: &str) -> RunOutput {
    // The first rank exits after this time, so that the slowest one can print its error or be ended by `on_stuck`.
    let linger = if fault.starts_with("abort_hang") || mode == "stuck" { "6" } else { "3" };
    let variables = [("NCCL_STAND_IN_FAULT", fault), ("GROUP_CHECK_LINGER", linger)];
    let run = with_stand_in(ranks, mode, &variables);
    assert!(!run.output.status.success(), "{}", run.stdout);
    assert!(run.time < TIMEOUT, "{fault} took {:?}: {}", run.time, run.stderr);
    run
}

fn assert_stderr_contains(run: &RunOutput, lines: &[&str]) {
    for line in lines {
        assert!(run.stderr.lines().any(|found| found.contains(line)), "{line:?} is not in:\n{}", run.stderr);
    }
}

fn assert_results(run: &RunOutput, start: &str) {
    assert!(run.output.status.success(), "{}\n{}", run.stdout, run.stderr);
    let line = run.stdout.lines().find(|line| line.ends_with("results are right")).unwrap_or_default();
    assert!(line.starts_with(start), "{start:?} is not in {}", run.stdout);
    println!("{line} ({:?})", run.time);
}

#[test]
fn groups_over_mpi_compute_correct_results() {
    assert_results(&group_check(1, ["mpi", "check"], &[]), "solo on 1 ranks: ");
    for ranks in [2, 3, 4, 8] {
        let run = group_check(ranks, ["mpi", "check"], &[]);
        assert_results(&run, &format!("mpi on {ranks} ranks: "));
    }
}

#[test]
fn groups_over_nccl_compute_correct_results() {
    for ranks in [1, 2, 3, 4, 8] {
        let run = with_stand_in(ranks, "check", &[]);
        assert_results(&run, &format!("nccl (stand-in) on {ranks} ranks: "));
    }
    let boards = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let remaining = boards.filter(|entry| entry.file_name().to_string_lossy().starts_with("nccl-stand-in-"));
    assert_eq!(remaining.count(), 0, "files of the stand-in are left in /dev/shm");
}

#[test]
fn a_call_that_hangs_on_one_rank_times_out_on_all_and_names_rank_step_and_operation() {
    let run = run_fault(3, "fault", "hang:1:4");
    for rank in 0..3 {
        let text =
            format!("rank {rank}: all_reduce was not done within 2.0 s after step 3: another rank is dead");
        assert_stderr_contains(&run, &[&format!("failure: {text}"), &format!("error: {text}")]);
    }
}

#[test]
fn an_asynchronous_error_releases_the_waiting_rank() {
    let run = run_fault(2, "fault", "async_error:1:3");
    let text = "rank 1: NCCL's all_reduce failed after step 2: ncclCommGetAsyncError: remote process exited or \
                there was a network error: stand-in: injected failure at call 3 (NCCL's code 6)";
    assert_stderr_contains(&run, &[&format!("failure: {text}"), &format!("error: {text}")]);
}

#[test]
fn an_abort_that_hangs_ends_the_process() {
    let run = run_fault(2, "fault", "abort_hang:1:2");
    let text = "stuck: rank 1: all_reduce was not done within 2.0 s after step 1: another rank is dead or stuck, or \
                makes other calls; and it cannot be aborted (ncclCommAbort did not end within 3.0 s)";
    assert_stderr_contains(&run, &[text]);
}

#[test]
fn a_program_that_makes_no_call_after_an_error_is_ended() {
    let run = run_fault(2, "stuck", "late_error:1:3");
    let text = "stuck: rank 1: NCCL's connection failed after step 2: ncclCommGetAsyncError: remote process exited or there \
                was a network error: stand-in: injected failure after call 3 (NCCL's code 6); it was aborted, but the \
                program has not returned within 2s";
    assert_stderr_contains(&run, &[text]);
}

#[test]
fn a_rank_that_cannot_start_is_reported_and_ends_the_job() {
    let run = run_fault(3, "fault", "init_fail:2");
    let text = "error: rank 2: NCCL's init failed after step 0: ncclCommInitRankConfig: unhandled system error: \
                stand-in: injected failure while the communicator is created (NCCL's code 2)";
    assert_stderr_contains(&run, &[text]);
}

#[test]
fn a_start_that_hangs_times_out() {
    let run = run_fault(2, "fault", "init_hang:1");
    assert_stderr_contains(
        &run,
        &["NCCL's init failed after step 0: ncclCommInitRankConfig did not end within 2.0 s"],
    );
}

#[test]
fn a_slow_rank_delays_the_others_without_an_error() {
    let run =
        with_stand_in(2, "fault", &[("NCCL_STAND_IN_FAULT", "slow:1"), ("NCCL_STAND_IN_SLOW_MS", "60")]);
    assert!(run.output.status.success(), "{}", run.stderr);
    let time = |rank: usize| {
        let line = run.stdout.lines().find(|line| line.starts_with(&format!("rank {rank}: ")))?;
        line.rsplit(' ').nth(1)?.parse::<u64>().ok()
    };
    // The slow rank is delayed in each of its five calls. Its peer may start its clock during the first of them.
    assert!(time(1) >= Some(300), "{}", run.stdout);
    assert!(time(0) >= Some(240), "{}", run.stdout);
}

#[test]
fn a_barrier_with_a_time_limit_names_rank_and_step() {
    for run in [group_check(2, ["mpi", "barrier"], &[]), with_stand_in(2, "barrier", &[])] {
        assert!(!run.output.status.success() && run.time < TIMEOUT);
        assert_stderr_contains(
            &run,
            &["error: rank 1: barrier was not done within 0.5 s after step 12: another rank"],
        );
    }
}

#[test]
fn two_ranks_on_one_gpu_are_refused() {
    let run = with_stand_in(3, "check", &[("NCCL_STAND_IN_SAME_GPU", "1")]);
    let start = "error: ranks 0 and 1 share one GPU (GPU-00000000-0000-0000-0000-000000000000 on ";
    let remedy = "but NCCL needs one for each rank: start one rank per GPU; under Slurm use --gpus-per-node with \
                  --gpu-bind=none";
    assert_stderr_contains(&run, &[start, remedy]);
    assert!(!run.output.status.success());
}

#[test]
fn a_library_that_does_not_load_is_refused_on_all_ranks() {
    let run = group_check(2, ["nccl", "check"], &[("NCCL_RS_LIBRARY", "/etc/hosts")]);
    let text =
        "error: rank 0: NCCL cannot be used: NCCL_RS_LIBRARY names /etc/hosts, which does not load as NCCL";
    assert_eq!(run.stderr.matches(text).count(), 2, "{}", run.stderr);
}
