//! Requests to stop in the middle of a step that does not end: the state after the last finished step is saved.

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

/// A seed under which the picture of its own comes late, and the step that needs it.
fn late(pictures: &Pictures) -> (u64, u64) {
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
    found.expect("one of forty seeds has it late")
}

fn training(world: usize, pictures: &Pictures, seed: u64, output: &Path) -> Command {
    // Where tests run in the background, these are ignored.
    let plain = trainer(world);
    let mut command = Command::new("env");
    command.args(["--default-signal=INT,HUP"]).arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    command.arg("train");
    select(&mut command, pictures, seed);
    command.arg("--output").arg(output);
    command
}

struct Scene {
    folder: tempfile::TempDir,
    pictures: Pictures,
    seed: u64,
    /// The step that does not end.
    step: u64,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pictures = Pictures::create(&folder.path().join("data"));
        let (seed, step) = late(&pictures);
        Self { folder, pictures, seed, step }
    }

    /// A run that stands in the middle of a step.
    fn stuck(&self, world: usize, output: &Path) -> Child {
        let mut command = training(world, &self.pictures, self.seed, output);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("the first step", Duration::from_mins(2), || steps_done(output) > 0);
        self.pictures.silence();
        // Lines of steps wait in memory for a second at most, or until something is saved.
        let log = || std::fs::read_to_string(output.join("logs/rank-0.log")).unwrap_or_default();
        let named = || {
            (0..world).any(|rank| {
                let log =
                    std::fs::read_to_string(output.join(format!("logs/rank-{rank}.log"))).unwrap_or_default();
                log.contains(&self.pictures.single().file_name().unwrap().to_string_lossy().into_owned())
            })
        };
        wait_for("the name of the picture in a log", Duration::from_mins(1), || {
            assert!(child.try_wait().unwrap().is_none(), "{}", log());
            named()
        });
        child
    }

    /// What was saved is what the run was after its last finished step, to the last bit.
    fn resumes(&self, world: usize, output: &Path) {
        self.pictures.answer();
        let whole = self.folder.path().join(format!("whole-{world}"));
        succeed(&mut training(world, &self.pictures, self.seed, &whole));
        succeed(training(world, &self.pictures, self.seed, output).args(["--resume", "auto"]));
        assert_same_result(&whole, output);
    }
}

#[test]
fn a_run_that_waits_for_a_file_system_is_saved_and_resumes_bitwise() {
    let scene = Scene::new();
    for (name, exit, outcome) in [
        ("TERM", 75, Outcome::Preempted),
        ("HUP", 75, Outcome::Preempted),
        ("INT", 130, Outcome::Interrupted),
    ] {
        let output = scene.folder.path().join(name);
        let mut child = scene.stuck(1, &output);
        signal(name, &child.id().to_string());
        assert_eq!(code(&mut child, Duration::from_secs(20)), Some(exit), "{name}");
        let status = Status::read(&output).unwrap();
        let before = scene.step - 1;
        assert_eq!((status.outcome, status.step), (Some(outcome), before), "{name}");
        let message = status.message.unwrap();
        assert!(message.contains(&format!("SIG{name}")) && message.contains("--resume auto"), "{message}");
        assert_eq!(checkpoints(&output).last().map(|(_, step)| *step), Some(before), "{name}");
        scene.pictures.answer();
        if name == "TERM" {
            scene.resumes(1, &output);
        }
    }
}

#[test]
fn a_request_that_one_rank_hears_ends_all_though_no_step_ends() {
    let scene = Scene::new();
    let output = scene.folder.path().join("run");
    let mut child = scene.stuck(2, &output);
    signal("USR2", &ranks(&output)[&1]);
    assert_eq!(code(&mut child, Duration::from_secs(25)), Some(75));
    let status = Status::read(&output).unwrap();
    assert_eq!((status.phase, status.step), (Phase::Preempted, scene.step - 1));
    scene.resumes(2, &output);
}

#[test]
fn the_second_ctrl_c_ends_a_stuck_run_at_once_and_its_status_says_so() {
    let scene = Scene::new();
    let output = scene.folder.path().join("run");
    let mut child = scene.stuck(1, &output);
    let pid = child.id().to_string();
    signal("INT", &pid);
    std::thread::sleep(Duration::from_millis(300));
    signal("INT", &pid);
    assert_eq!(code(&mut child, Duration::from_secs(3)), Some(130));
    assert_eq!(Status::read(&output).unwrap().outcome, Some(Outcome::Interrupted));
    assert!(checkpoints(&output).is_empty());
}

#[test]
fn a_hang_up_is_nothing_to_a_run_that_was_started_to_ignore_it() {
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
