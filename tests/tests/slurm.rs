//! Jobs in a real, temporary Slurm cluster: signals, requeues, dead nodes and ranks, time limits, refusals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use protocol::{Outcome, Phase, Status};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tests::cluster::{ClusterBench, FakeSlurm};
use tests::launched::{
    assert_same_result, code, fake_trainer, signal, starts, steps, training, wait_for, wait_for_checkpoint,
    wait_for_step,
};
use tests::{binary, stderr, succeed};

const SOON: Duration = Duration::from_mins(1);
/// Timeout of a complete training on a busy machine.
const LONG: Duration = Duration::from_mins(4);
const TWO_BY_TWO: [&str; 2] = ["--nodes=2", "--ntasks-per-node=2"];
const STEPS: u64 = 60;
/// Number of jobs that receive a request to save, each at a different moment between its start and its end.
const ROUNDS: &str = "LIFT_SLURM_ROUNDS";

fn completed() -> (String, String) {
    ("COMPLETED".into(), "0:0".into())
}

/// Submits a training to two nodes with two ranks each.
fn submit(bench: &ClusterBench, run: &str, steps: u64) -> String {
    bench.sbatch(|sbatch| {
        sbatch.args(TWO_BY_TWO).arg("slurm/lift.sbatch").arg("--").args(training(run, steps));
    })
}

/// An undisturbed run by a job. Returns its folder, and the time from its first line of output to its first step.
fn undisturbed(bench: &ClusterBench) -> (PathBuf, Duration) {
    let job = submit(bench, "undisturbed", STEPS);
    bench.wait_for_start(&job, 1, SOON);
    let start = Instant::now();
    wait_for_phase(&bench.path("undisturbed"), Phase::Training);
    let until_training = start.elapsed();
    assert_eq!(bench.end(&job, LONG), completed(), "{}", bench.output(&job));
    let run = bench.path("undisturbed");
    let status = Status::read(&run).unwrap();
    assert_eq!((status.phase, status.step, status.world_size), (Phase::Done, STEPS, 4));
    (run, until_training)
}

/// Waits until a run has reached or passed a phase.
fn wait_for_phase(run: &Path, phase: Phase) {
    wait_for(&format!("{phase:?}"), LONG, || {
        Status::read(run).is_ok_and(|status| status.phase == phase || status.phase.is_final())
    });
}

/// Waits for a moment of a run that has just started: 0 is its first line of output and 1 its last.
fn wait_for_moment(run: &Path, moment: f64, until_training: Duration) {
    const TRAINING: f64 = 0.2;
    const EVALUATING: f64 = 0.95;
    if moment < TRAINING {
        std::thread::sleep(until_training.mul_f64(moment / TRAINING));
    } else if moment < EVALUATING {
        // The last quarter of the steps is the time that the request needs to reach the ranks.
        let share = 0.75 * (moment - TRAINING) / (EVALUATING - TRAINING);
        wait_for_checkpoint(run, (share * STEPS as f64) as u64);
        // A checkpoint follows every fifth step; this is a moment between two of them.
        std::thread::sleep(Duration::from_secs_f64(moment / 4.0));
    } else {
        wait_for_phase(run, Phase::Evaluating);
    }
}

#[test]
fn a_signal_at_any_moment_keeps_the_result() {
    let Some(bench) = ClusterBench::enter("a_signal_at_any_moment_keeps_the_result", &[]) else { return };
    let rounds: u32 = std::env::var(ROUNDS).map_or(2, |text| text.parse().expect("a number of rounds"));
    let (expected, until_training) = undisturbed(&bench);
    for round in 0..rounds {
        let name = format!("run-{round}");
        let run = bench.path(&name);
        let job = submit(&bench, &name, STEPS);
        bench.wait_for_start(&job, 1, SOON);
        let moment = (f64::from(round) + 0.5) / f64::from(rounds);
        wait_for_moment(&run, moment, until_training);
        let phase = Status::read(&run).map_or(Phase::Starting, |status| status.phase);
        bench.stdout_of("scancel", &["--batch", "--signal=USR2", &job]);
        assert_eq!(bench.end(&job, LONG), completed(), "at {moment}: {}", bench.output(&job));
        assert_same_result(&expected, &run);
        let (restarts, output) = (bench.field(&job, "Restarts"), bench.output(&job));
        let saved = output.lines().find(|line| line.starts_with("lift: saved")).unwrap_or("nothing to save");
        eprintln!("round {round}: at {moment:.3}, {phase:?}: {restarts} restarts, {saved}");
        if !matches!(phase, Phase::Evaluating | Phase::Done) {
            // On a busy machine, Open MPI may fail before the ranks start. The job is then restarted without a request.
            let failed_starts = output.matches("A system call failed during shared memory initialization");
            assert_eq!(restarts, (1 + failed_starts.count()).to_string(), "{output}");
            assert!(output.contains("lift: start 0 of job"), "the log contains the first start: {output}");
        }
    }
}

#[test]
fn a_requeue_a_killed_rank_and_a_stopped_rank_do_not_change_the_result() {
    let name = "a_requeue_a_killed_rank_and_a_stopped_rank_do_not_change_the_result";
    let Some(bench) = ClusterBench::enter(name, &[]) else { return };
    let expected = bench.train("undisturbed", STEPS);
    let run = bench.path("run");
    let job = submit(&bench, "run", STEPS);
    wait_for_checkpoint(&run, 5);
    bench.stdout_of("scontrol", &["requeue", &job]);
    bench.wait_for_start(&job, 2, SOON);
    for (start, step, signal_name) in [(3, 20, "KILL"), (4, 40, "STOP")] {
        wait_for_checkpoint(&run, step);
        signal(signal_name, &bench.ranks()[&3]);
        bench.wait_for_start(&job, start, SOON);
    }
    assert_eq!(bench.end(&job, LONG), completed(), "{}", bench.output(&job));
    assert_same_result(&expected, &run);
    let output = bench.output(&job);
    for part in [
        "lift: Slurm ends this job; it decides whether to start it again",
        "died after step",
        "has not answered for",
        "lift: rank 3 failed first",
        "(restart 3 of at most 10)",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
}

#[test]
fn a_dead_node_does_not_change_the_result() {
    let Some(bench) = ClusterBench::enter("a_dead_node_does_not_change_the_result", &[]) else { return };
    let expected = bench.train("undisturbed", STEPS);
    let run = bench.path("run");
    let job = submit(&bench, "run", STEPS);
    wait_for_checkpoint(&run, 15);
    bench.stdout_of("slurm-node", &["crash", "n2"]);
    wait_for("the requeue", SOON, || {
        std::thread::sleep(Duration::from_millis(200));
        bench.field(&job, "JobState") == "PENDING"
    });
    // The node still has the files of the job step that died.
    assert!(bench.command("slurm-node").args(["start", "n2"]).status().unwrap().success());
    assert_eq!(bench.end(&job, LONG), completed(), "{}", bench.output(&job));
    assert!(!bench.output(&job).contains("launch failed"), "{}", bench.output(&job));
    // Slurm may start the job again before it knows of the crash.
    assert!(["1", "2"].contains(&bench.field(&job, "Restarts").as_str()), "{}", bench.output(&job));
    assert_same_result(&expected, &run);
}

#[test]
fn the_time_limit_saves_and_requeues_a_job() {
    let Some(bench) = ClusterBench::enter("the_time_limit_saves_and_requeues_a_job", &[]) else { return };
    let run = bench.path("run");
    let job = bench.sbatch(|sbatch| {
        // Slurm checks limits every 30 seconds, so the signal may come up to 30 seconds earlier.
        sbatch.args(["--time=1", "--signal=B:USR2@25"]).args(TWO_BY_TWO);
        sbatch.arg("slurm/lift.sbatch").args(training("run", 100_000));
    });
    wait_for("the save", Duration::from_secs(80), || {
        Status::read(&run).is_ok_and(|status| status.phase == Phase::Preempted)
    });
    let saved = Status::read(&run).unwrap().step;
    bench.wait_for_start(&job, 2, SOON);
    let output = bench.output(&job);
    assert!(output.contains("lift: asking the ranks to save and end"), "{output}");
    assert!(output.contains(&format!("lift: saved and stopped after step {saved}\n")), "{output}");
    wait_for_checkpoint(&run, saved + 10);
    bench.stdout_of("scancel", &[&job]);
    let end = bench.end(&job, SOON).0;
    assert_eq!(end, "CANCELLED", "a cancelled job stays cancelled: {}", bench.output(&job));
    let steps_made = steps(&run);
    let expected = steps(&bench.train("reference", saved + 10));
    assert_eq!(expected, steps_made[..expected.len()]);
}

#[test]
fn permanent_failures_are_not_requeued() {
    let Some(bench) = ClusterBench::enter("permanent_failures_are_not_requeued", &[]) else { return };
    let ends = |variable: (&str, &str), line: &str| {
        let job = bench.sbatch(|sbatch| {
            sbatch.args(TWO_BY_TWO).arg("slurm/lift.sbatch").env("LIFT_TRAINER", fake_trainer());
            sbatch.env(variable.0, variable.1);
        });
        let end = bench.end(&job, SOON);
        let output = bench.output(&job);
        assert!(output.contains(line), "{output}");
        (end, output)
    };
    let (end, output) =
        ends(("FAKE_FAIL", "3 0 7 9"), "not requeued: two starts in a row gained no checkpoint");
    assert_eq!(end, ("FAILED".into(), "1:0".into()));
    assert!(
        output.contains("lift: rank 3 failed first") && output.contains("rank=3: injected failure: 7"),
        "{output}"
    );
    let job = bench.sbatch(|sbatch| {
        sbatch.args(TWO_BY_TWO).args(["slurm/lift.sbatch", "--", "train", "--set", "train.epoch=2"]);
    });
    assert_eq!(bench.end(&job, SOON), ("FAILED".into(), "2:0".into()));
    let output = bench.output(&job);
    assert!(output.contains("error: ") && output.contains("train.epochs"), "{output}");
    assert!(output.contains("lift: wrong input; not requeued"), "{output}");
    let (end, _) = ends(
        ("LIFT_TRAINER", "/nowhere/trainer"),
        "error: /nowhere/trainer does not exist or is not a program\nhint: build it",
    );
    assert_eq!(end, ("FAILED".into(), "2:0".into()));
    let job = bench.sbatch(|sbatch| {
        sbatch
            .args(["slurm/lift.sbatch", "train", "--output", "run"])
            .env("LIFT_TRAINER", fake_trainer())
            .env("FAKE_FAIL", "0 4 7 9")
            .env("LIFT_MAX_RESTARTS", "0");
    });
    assert_eq!(bench.end(&job, SOON), ("FAILED".into(), "1:0".into()));
    assert!(
        bench.output(&job).contains("restarted 0 times already (LIFT_MAX_RESTARTS=0)"),
        "{}",
        bench.output(&job)
    );
}

#[test]
fn without_pmix_mpirun_starts_ranks() {
    let Some(bench) = ClusterBench::enter("without_pmix_mpirun_starts_ranks", &[]) else { return };
    let bin = bench.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let srun = bin.join("srun");
    std::fs::write(
        &srun,
        "#!/bin/sh\n[ \"$1\" = --mpi=list ] && exec echo pmi2\nexec /usr/bin/srun \"$@\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&srun, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let run = bench.path("run");
    let job = bench.sbatch(|sbatch| {
        sbatch.args(TWO_BY_TWO).arg("slurm/lift.sbatch").args(training("run", 100_000)).env("PATH", &path);
        sbatch.env("LIFT_MAX_RESTARTS", "0");
    });
    wait_for_step(&run, 3);
    bench.stdout_of("scancel", &["--batch", "--signal=USR2", &job]);
    assert_eq!(bench.end(&job, SOON), ("FAILED".into(), "75:0".into()), "{}", bench.output(&job));
    let status = Status::read(&run).unwrap();
    assert_eq!((status.phase, status.world_size), (Phase::Preempted, 4));
    assert!(bench.output(&job).contains("starting the ranks with mpirun"), "{}", bench.output(&job));
}

#[test]
fn sweeps_containers_and_gpus_reach_the_trainer() {
    let Some(bench) = ClusterBench::enter("sweeps_containers_and_gpus_reach_the_trainer", &["--gpus", "2"])
    else {
        return;
    };
    std::fs::write(bench.path("sweep"), "train --set 'data.root=/a b'\ntrain --set train.seed=%a\n").unwrap();
    let sweep = bench.sbatch(|sbatch| {
        sbatch.args(["--array=1-2", "slurm/lift-array.sbatch", "sweep", "--quiet"]);
        sbatch.env("FAKE_STEPS", "2").env("LIFT_TRAINER", fake_trainer());
    });
    let apptainer = bench.path("apptainer");
    let text = "#!/bin/bash\necho \"apptainer $*\"\nwhile [[ $1 != lift.sif ]]; do shift; done\nshift\nexec \"$@\"\n";
    std::fs::write(&apptainer, text).unwrap();
    std::fs::set_permissions(&apptainer, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(bench.path("lift.sif"), "").unwrap();
    let path = format!("{}:{}", bench.path("").display(), std::env::var("PATH").unwrap());
    let image = bench.sbatch(|sbatch| {
        sbatch.args([
            "--nodes=2",
            "--gpus-per-node=2",
            "slurm/lift-container.sbatch",
            "train",
            "--output",
            "run",
        ]);
        sbatch.env("PATH", &path).env("LIFT_CONTAINER", "lift.sif");
        sbatch.env("FAKE_STEPS", "2").env("LIFT_TRAINER", fake_trainer());
    });
    assert_eq!(bench.end(&image, SOON), completed(), "{}", bench.output(&image));
    assert_eq!(Status::read(&bench.path("run")).unwrap().world_size, 4, "one rank per GPU");
    assert!(bench.output(&image).contains(" --nv lift.sif "), "{}", bench.output(&image));
    for task in ["1", "2"] {
        assert_eq!(bench.end(&format!("{sweep}_{task}"), SOON), completed());
    }
    let line = |task| starts(&bench.path(&format!("runs/slurm-{sweep}_{task}"))).join("\n");
    assert_eq!(line("1"), format!("0 train --set data.root=/a b --quiet --output runs/slurm-{sweep}_1"));
    assert_eq!(line("2"), format!("0 train --set train.seed=2 --quiet --output runs/slurm-{sweep}_2"));
}

/// Runs four tasks, two at a time.
fn check_array_saves_and_ends(bench: &ClusterBench, stdout: &dyn Fn(&[&str]) -> String) {
    let training = training("seeds/%a", 100_000);
    let mut arguments = vec!["submit", "--array", "0-3%2", "--json", "--"];
    arguments.extend(training.iter().map(String::as_str));
    let record: serde_json::Value = serde_json::from_str(&stdout(&arguments)).unwrap();
    let array = record["job"].as_str().unwrap();
    for task in ["0", "1"] {
        wait_for_step(&bench.path("seeds").join(task), 3);
        let name = format!("{array}_{task}");
        assert!(stdout(&["status", &name]).contains(&format!("\n{name}  RUNNING  training ")), "{name}");
        assert!(stdout(&["logs", &name]).contains("lift: start 0 of job"), "{name}");
    }
    let cancelled = stdout(&["cancel", array]);
    assert_eq!(cancelled, format!("job {array} cancelled after 2 of 2 running tasks saved\n"));
    for task in ["0", "1", "2", "3"] {
        let name = format!("{array}_{task}");
        wait_for(&format!("the end of {name}"), SOON, || {
            std::thread::sleep(Duration::from_millis(200));
            stdout(&["cancel", &name]).contains(" ended before ")
        });
        let run = bench.path("seeds").join(task);
        assert_eq!(Status::read(&run).is_ok(), ["0", "1"].contains(&task), "{name} began");
    }
}

#[test]
fn lift_submits_shows_and_cancels_jobs() {
    let Some(bench) = ClusterBench::enter("lift_submits_shows_and_cancels_jobs", &[]) else { return };
    let lift = |arguments: &[&str]| bench.command(binary("lift")).args(arguments).output().unwrap();
    let stdout = |arguments: &[&str]| {
        let output = lift(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    for (option, value, reason) in [
        ("--partition", "nowhere", "invalid partition"),
        ("--gpus-per-node", "3", "Invalid generic resource"),
    ] {
        let refused = lift(&["submit", option, value]);
        let message = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{message}");
        assert!(message.starts_with("error: sbatch refuses: ") && message.contains(reason), "{message}");
        assert!(message.contains("\nhint: `sinfo"), "{message}");
    }
    let training = training("my run", 100_000);
    let mut arguments = vec!["submit", "--nodes", "2", "--ranks-per-node", "2", "--json", "--"];
    arguments.extend(training.iter().map(String::as_str));
    let record: serde_json::Value = serde_json::from_str(&stdout(&arguments)).unwrap();
    let job = record["job"].as_str().unwrap();
    let run = bench.path("my run");
    assert_eq!(record["run"].as_str(), run.to_str());
    wait_for_step(&run, 3);
    for names in [vec!["status"], vec!["status", job], vec!["status", "my run"]] {
        let table = stdout(&names);
        assert!(table.starts_with("job  slurm    phase "), "{table}");
        assert!(table.contains(&format!("\n{job}    RUNNING  training ")), "{table}");
    }
    let row: serde_json::Value = serde_json::from_str(&stdout(&["status", "--json", job])).unwrap();
    assert!(row["step"].as_u64().unwrap() >= 3 && row["restarts"] == 0, "{row}");
    assert!(stdout(&["logs", job]).contains("lift: start 0 of job"));
    let cancelled = stdout(&["cancel", job]);
    assert!(cancelled.starts_with(&format!("job {job} cancelled after saving at step ")), "{cancelled}");
    assert_eq!(bench.end(job, SOON).0, "CANCELLED");
    assert!(stdout(&["logs", "--rank", "3", "my run"]).contains("rank=3"));
    assert_eq!(
        stdout(&["cancel", job]),
        format!("job {job} ended before (CANCELLED); there is nothing to cancel\n")
    );
    assert_eq!(Status::read(&run).unwrap().phase, Phase::Preempted);
    check_array_saves_and_ends(&bench, &stdout);
    let unknown = lift(&["status", "nothing"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        stderr(&unknown).contains("neither a job that `lift submit` submitted from here nor a run folder")
    );
}

#[test]
fn a_restarted_job_keeps_the_path_that_it_resumed_from() {
    let slurm = FakeSlurm::new();
    for (number, resume, restart) in [
        (0, &[][..], " --resume auto"),
        (1, &["--resume", "auto"], " --resume auto"),
        (2, &["--resume=never"], " --resume auto"),
        (3, &["--resume", "runs/old"], " --resume runs/old"),
        (4, &["--resume=runs/old"], " --resume runs/old"),
    ] {
        let run = format!("run-{number}");
        let arguments = [&["train", "--output", &run][..], resume].concat();
        succeed(slurm.job(0, &arguments).env("FAKE_STEPS", "1"));
        succeed(slurm.job(1, &arguments).env("FAKE_STEPS", "2"));
        let line = starts(&slurm.path(&run)).pop().unwrap();
        assert_eq!(line, format!("1 train --output {run}{restart}"));
    }
}

/// Messages of job 17 after `restarts` restarts, whose trainer fails according to these variables.
fn failing_start(slurm: &FakeSlurm, restarts: u32, variables: &[(&str, &str)]) -> String {
    let ended =
        tests::run(slurm.job(restarts, &["train", "--output", "run"]).envs(variables.iter().copied()));
    assert_eq!(ended.status.code(), Some(1), "{}", stderr(&ended));
    stderr(&ended)
}

#[test]
fn a_job_ends_after_two_consecutive_starts_without_a_newer_checkpoint() {
    const REQUEUED: &str = "lift: requeueing job 17";
    let slurm = FakeSlurm::new();
    let start = |restarts, fail: &str, every: &str| {
        failing_start(&slurm, restarts, &[("FAKE_FAIL", fail), ("FAKE_SAVE_EVERY", every)])
    };
    for (restarts, fail, every, requeued) in [
        (0, "0 6 7 9", "5", true),
        // More steps than in the previous start do not count without a checkpoint.
        (1, "0 3 7 9", "100", true),
        (2, "0 5 7 9", "5", true),
        (3, "0 1 7 9", "100", true),
        (4, "0 4 7 9", "100", false),
        // Another job in the same folder has its own count.
        (0, "0 0 7 9", "5", true),
        (1, "0 0 KILL 9", "5", false),
    ] {
        let messages = start(restarts, fail, every);
        assert_eq!(messages.contains(REQUEUED), requeued, "{restarts} {fail}: {messages}");
        let not_requeued =
            "lift: not requeued: two starts in a row gained no checkpoint (the newest is of step 10)";
        assert_eq!(messages.contains(not_requeued), !requeued, "{restarts} {fail}: {messages}");
    }
}

#[test]
fn a_job_does_not_report_failures_of_an_earlier_start() {
    let slurm = FakeSlurm::new();
    let messages = failing_start(&slurm, 0, &[("FAKE_FAIL", "0 0 7 9")]);
    assert!(messages.contains("lift: failed (exit code 7 of srun): rank 0 failed in step 0\n"), "{messages}");
    let messages = failing_start(&slurm, 1, &[("LIFT_TRAINER", "/bin/false")]);
    assert!(messages.contains("lift: failed (exit code 1 of srun)\n"), "{messages}");
}

#[test]
fn a_job_that_cannot_be_requeued_prints_how_to_resume() {
    let slurm = FakeSlurm::new();
    for (fail, from) in [("0 0 7 9", "runs/old"), ("0 2 7 9", "auto")] {
        let mut job = slurm.job(0, &["train", "--resume", "runs/old", "--output", "run"]);
        let messages = stderr(&tests::run(job.env("FAKE_FAIL", fail)));
        let line = format!("resume with: sbatch ... -- train --output run --resume {from}\n");
        assert!(messages.contains(&line), "{messages}");
    }
}

/// Submits job 17 to the fake Slurm programs.
fn submit_to(slurm: &FakeSlurm, options: &[&str], output: &str) {
    let arguments = [&["submit"][..], options, &["--", "train", "--output", output]].concat();
    let output = succeed(&mut slurm.lift(&arguments));
    assert!(output.stdout.starts_with(b"job 17, run folder "), "{output:?}");
}

/// Writes the `status.json` of a run that has ended with this outcome.
fn write_end(run: &Path, outcome: Outcome, step: u64) {
    let mut status = Status { step, ..Status::starting(1) };
    status.end(outcome, None);
    std::fs::create_dir_all(run.join("logs")).unwrap();
    status.write(run).unwrap();
}

#[test]
fn a_log_is_followed_from_before_the_job_starts_until_slurm_reports_its_end() {
    let slurm = FakeSlurm::new();
    let run = slurm.path("run");
    write_end(&run, Outcome::Failed, 3);
    std::fs::write(run.join("logs/rank-0.log"), "of an older job\n").unwrap();
    std::fs::write(run.join("logs/slurm-16.out"), "of an older job\n").unwrap();
    submit_to(&slurm, &[], "run");
    slurm.set_states("17", &["PENDING"]);
    let refused = tests::run(&mut slurm.lift(&["logs", "17"]));
    let path = run.join("logs/slurm-17.out");
    let sentence = format!("error: job 17 (PENDING) has no log `{}`\n", path.display());
    assert_eq!((refused.status.code(), stderr(&refused)), (Some(2), sentence));
    let mut command = slurm.lift(&["logs", "-f", "17"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    slurm.set_states("17", &["RUNNING"]);
    std::fs::write(&path, "one\n").unwrap();
    // Slurm may requeue a job that seems to have ended, so the end of the run is not the end of the job.
    write_end(&run, Outcome::Done, 9);
    std::thread::sleep(Duration::from_secs(4));
    assert!(child.try_wait().unwrap().is_none());
    std::fs::write(&path, "one\ntwo\n").unwrap();
    slurm.set_states("17", &["COMPLETED"]);
    assert_eq!(code(&mut child, SOON), Some(0));
    let ended = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "one\ntwo\n");
    assert_eq!(stderr(&ended), format!("waiting for `{}`\n", path.display()));
}

#[test]
fn following_the_log_of_a_job_that_never_started_ends() {
    let slurm = FakeSlurm::new();
    submit_to(&slurm, &[], "run");
    slurm.set_states("17", &["CANCELLED"]);
    let ended = tests::run(&mut slurm.lift(&["logs", "-f", "17"]));
    assert_eq!(ended.status.code(), Some(2));
    assert!(stderr(&ended).contains("error: job 17 (CANCELLED) has no log "), "{}", stderr(&ended));
}

#[test]
fn tasks_of_an_array_are_found_by_their_ids() {
    let slurm = FakeSlurm::new();
    submit_to(&slurm, &["--array", "0-3"], "runs/seed-%a/x");
    let run = slurm.path("runs/seed-3/x");
    write_end(&run, Outcome::Preempted, 5);
    std::fs::write(slurm.path("runs/logs/slurm-17_3.out"), "what task 3 printed\n").unwrap();
    slurm.set_states("17_3", &["RUNNING"]);
    let stdout = |arguments: &[&str]| String::from_utf8(succeed(&mut slurm.lift(arguments)).stdout).unwrap();
    assert_eq!(stdout(&["logs", "17_3"]), "what task 3 printed\n");
    let row: serde_json::Value = serde_json::from_str(&stdout(&["status", "--json", "17_3"])).unwrap();
    assert_eq!((&row["job"], &row["slurm"], &row["step"]), (&"17_3".into(), &"RUNNING".into(), &5.into()));
    assert_eq!(row["run"].as_str(), run.to_str());
    let whole = tests::run(&mut slurm.lift(&["logs", "17"]));
    assert_eq!(
        stderr(&whole),
        "error: job 17 is an array\nhint: name one of its tasks, e.g. `lift logs 17_1`\n"
    );
    assert_eq!(
        stdout(&["cancel", "--grace", "1", "17_3"]),
        "job 17_3 cancelled at step 5, without waiting for a save\n"
    );
    assert!(run.join("logs/cancelled").exists());
    assert_eq!(slurm.calls(), ["scancel --signal=USR2 17_3", "scancel 17_3"]);
}

#[test]
fn cancelling_an_array_lets_every_running_task_save() {
    let slurm = FakeSlurm::new();
    submit_to(&slurm, &["--array", "0-9%2"], "runs/%a");
    slurm.set_states("17", &["COMPLETED", "PENDING", "RUNNING", "RUNNING"]);
    std::fs::write(slurm.path("tasks-17"), "1\n2\n").unwrap();
    for task in ["1", "2"] {
        slurm.set_states(&format!("17_{task}"), &["RUNNING"]);
        // A status of the previous start does not count as a save.
        write_end(&slurm.path("runs").join(task), Outcome::Preempted, 5);
    }
    let mut child = slurm.lift(&["cancel", "--grace", "4", "17"]).stdout(Stdio::piped()).spawn().unwrap();
    wait_for("the requests to save", SOON, || slurm.calls().len() == 3);
    write_end(&slurm.path("runs/1"), Outcome::Preempted, 8);
    assert_eq!(code(&mut child, SOON), Some(0));
    let messages = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(messages, "job 17 cancelled after 1 of 2 running tasks saved\n");
    let expected = [
        "scancel --state=PENDING 17",
        "scancel --signal=USR2 17_1",
        "scancel --signal=USR2 17_2",
        "scancel 17",
    ];
    assert_eq!(slurm.calls(), expected);
    for (task, marked) in [("0", false), ("1", true), ("2", true)] {
        assert_eq!(slurm.path("runs").join(task).join("logs/cancelled").exists(), marked, "{task}");
    }
}

#[test]
fn a_job_whose_record_cannot_be_written_is_reported() {
    let slurm = FakeSlurm::new();
    std::fs::write(slurm.path("state"), "no folder").unwrap();
    let output = succeed(&mut slurm.lift(&["submit", "--", "train", "--output", "run"]));
    assert!(output.stdout.starts_with(b"job 17, run folder "), "{output:?}");
    assert!(stderr(&output).starts_with("warning: cannot create `"), "{}", stderr(&output));
    slurm.set_states("17", &["RUNNING"]);
    let status = succeed(&mut slurm.lift(&["status", "--json", "run"])).stdout;
    assert!(
        String::from_utf8_lossy(&status).contains("\"job\":\"17\""),
        "the run folder contains the record"
    );
}

#[test]
fn slurm_chaos_without_jobs_fails() {
    let folder = tempfile::tempdir().unwrap();
    let cargo = folder.path().join("cargo");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let chaos = |text: &str| {
        std::fs::write(&cargo, format!("#!/bin/sh\nprintf '{text}' >&2\n")).unwrap();
        std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
        let script = tests::launched::repository().join("scripts/slurm_chaos.sh");
        let ended = tests::run(std::process::Command::new(script).arg("2").env("PATH", &path));
        (ended.status.code(), stderr(&ended))
    };
    let none =
        "slurm_chaos: no job was run, since no Slurm cluster can be started here (see `skipped:` above)\n";
    assert_eq!(chaos("skipped: a test (needs root)\\n"), (Some(1), none.into()));
    assert_eq!(chaos("round 0: fine\\n"), (Some(1), "slurm_chaos: 1 of 2 jobs are reported above\n".into()));
    assert_eq!(chaos("round 0: fine\\nround 1: fine\\n"), (Some(0), String::new()));
}
