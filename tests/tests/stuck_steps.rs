//! Requests to stop during a step that does not end: the state after the last finished step is saved.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use protocol::{Outcome, Phase, Status};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tests::launched::{assert_same_result, code, ranks, signal, wait_for};
use tests::pictures::{Pictures, SINGLE_LINE};
use tests::{checkpoints, steps_done, succeed, trainer};

const BATCH: u64 = 4;

fn select(command: &mut Command, pictures: &Pictures, seed: u64) {
    command.arg("-d").arg(pictures.preset()).args(["-m", "demo"]);
    for setting in [
        "head.init=random",
        "train.epochs=1",
        "train.determinism=same_world",
        "train.threads=1",
        "data.workers=1",
        "data.prefetch=1",
        "distributed.timeout_seconds=120",
        &format!("train.batch_size={BATCH}"),
        &format!("train.seed={seed}"),
    ] {
        command.args(["--set", setting]);
    }
}

/// A seed for which the unique image occurs late, and the step that needs it.
fn late_seed(pictures: &Pictures) -> (u64, u64) {
    let step = |seed: u64| {
        let mut command = trainer(1);
        command.arg("order");
        select(&mut command, pictures, seed);
        let lines = String::from_utf8(succeed(&mut command).stdout).unwrap();
        let rows = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let found = rows.into_iter().find(|row| row["sample"] == SINGLE_LINE).unwrap();
        found["step"].as_u64().unwrap()
    };
    let last = SINGLE_LINE as u64 / BATCH;
    let found = (0..40).map(|seed| (seed, step(seed))).find(|(_, step)| (last * 2 / 3..last).contains(step));
    found.expect("one of forty seeds has the image late")
}

fn training(world: usize, pictures: &Pictures, seed: u64, output: &Path) -> Command {
    // Resets these signals, which are ignored if the tests run in the background.
    let plain = trainer(world);
    let mut command = Command::new("env");
    command.args(["--default-signal=INT,HUP"]).arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    command.arg("train");
    select(&mut command, pictures, seed);
    command.arg("--output").arg(output);
    command
}

struct StuckRun {
    folder: tempfile::TempDir,
    pictures: Pictures,
    seed: u64,
    /// The step that does not end.
    step: u64,
}

impl StuckRun {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pictures = Pictures::create(&folder.path().join("data"));
        let (seed, step) = late_seed(&pictures);
        Self { folder, pictures, seed, step }
    }

    /// Starts a run that hangs in the middle of a step.
    fn start_stuck(&self, world: usize, output: &Path) -> Child {
        let mut command = training(world, &self.pictures, self.seed, output);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("the first step", Duration::from_mins(2), || steps_done(output) > 0);
        self.pictures.block_reads();
        // Lines of steps are buffered for at most a second, or until the next checkpoint.
        let log = || std::fs::read_to_string(output.join("logs/rank-0.log")).unwrap_or_default();
        let named = || {
            (0..world).any(|rank| {
                let log =
                    std::fs::read_to_string(output.join(format!("logs/rank-{rank}.log"))).unwrap_or_default();
                log.contains(&self.pictures.single().file_name().unwrap().to_string_lossy().into_owned())
            })
        };
        wait_for("the name of the image in a log", Duration::from_mins(1), || {
            assert!(child.try_wait().unwrap().is_none(), "{}", log());
            named()
        });
        child
    }

    /// Asserts that the run resumes, and that its result is bitwise equal to that of an undisturbed run.
    fn assert_resumes(&self, world: usize, output: &Path) {
        self.pictures.unblock_reads();
        let whole = self.folder.path().join(format!("whole-{world}"));
        succeed(&mut training(world, &self.pictures, self.seed, &whole));
        succeed(training(world, &self.pictures, self.seed, output).args(["--resume", "auto"]));
        assert_same_result(&whole, output);
    }
}

#[test]
fn a_run_that_waits_for_a_file_system_is_saved_and_resumes_bitwise() {
    let scene = StuckRun::new();
    for (name, exit, outcome) in [
        ("TERM", 75, Outcome::Preempted),
        ("HUP", 75, Outcome::Preempted),
        ("INT", 130, Outcome::Interrupted),
    ] {
        let output = scene.folder.path().join(name);
        let mut child = scene.start_stuck(1, &output);
        signal(name, &child.id().to_string());
        assert_eq!(code(&mut child, Duration::from_secs(20)), Some(exit), "{name}");
        let status = Status::read(&output).unwrap();
        let before = scene.step - 1;
        assert_eq!((status.outcome, status.step), (Some(outcome), before), "{name}");
        let message = status.message.unwrap();
        assert!(message.contains(&format!("SIG{name}")) && message.contains("--resume auto"), "{message}");
        assert_eq!(checkpoints(&output).last().map(|(_, step)| *step), Some(before), "{name}");
        scene.pictures.unblock_reads();
        if name == "TERM" {
            scene.assert_resumes(1, &output);
        }
    }
}

#[test]
fn a_request_to_one_rank_ends_all_during_a_stuck_step() {
    let scene = StuckRun::new();
    let output = scene.folder.path().join("run");
    let mut child = scene.start_stuck(2, &output);
    signal("USR2", &ranks(&output)[&1]);
    assert_eq!(code(&mut child, Duration::from_secs(25)), Some(75));
    let status = Status::read(&output).unwrap();
    assert_eq!((status.phase, status.step), (Phase::Preempted, scene.step - 1));
    scene.assert_resumes(2, &output);
}

#[test]
fn the_second_ctrl_c_ends_a_stuck_run_at_once_and_its_status_reports_it() {
    let scene = StuckRun::new();
    let output = scene.folder.path().join("run");
    let mut child = scene.start_stuck(1, &output);
    let pid = child.id().to_string();
    signal("INT", &pid);
    std::thread::sleep(Duration::from_millis(300));
    signal("INT", &pid);
    assert_eq!(code(&mut child, Duration::from_secs(3)), Some(130));
    assert_eq!(Status::read(&output).unwrap().outcome, Some(Outcome::Interrupted));
    assert!(checkpoints(&output).is_empty());
}

#[test]
fn a_run_that_ignores_hang_up_continues() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = Command::new("env");
    command.arg("--ignore-signal=HUP").arg(tests::binary("lift-trainer"));
    command
        .args(["train", "--set", "train.max_steps=30", "--set", "train.batch_size=8"])
        .arg("--output")
        .arg(&output);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the first step", Duration::from_mins(2), || steps_done(&output) > 0);
    signal("HUP", &child.id().to_string());
    assert_eq!(code(&mut child, Duration::from_mins(2)), Some(0));
}
