//! Failing ranks as real processes: which rank the verdict names, how soon the job ends, and which processes remain.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Timeout after which a test fails.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Maximum time from the death of a rank to the end of the job.
const DEATH_LIMIT: Duration = Duration::from_secs(3);

/// Maximum time between heartbeats in these tests.
const SILENCE: Duration = Duration::from_secs(2);

/// A running job, and its output so far.
struct Job {
    child: Child,
    lines: Receiver<String>,
    output: String,
    pids: BTreeMap<usize, i32>,
}

/// A job that has ended.
struct EndedJob {
    status: ExitStatus,
    output: String,
    pids: BTreeMap<usize, i32>,
    after: Duration,
}

fn example() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.parent().and_then(Path::parent).expect("tests lie in PROFILE/deps");
    let path = profile.join("examples/watched_ranks");
    assert!(path.exists(), "{} is missing: run `make build` (or `make test`) first", path.display());
    path
}

/// `mpirun` for ranks on this machine, also as root. `timeout` is its time between TERM and KILL in seconds.
fn mpirun(ranks: usize, timeout: Option<u32>) -> Command {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.mpi/bin/mpirun");
    let mut command = Command::new(if bundled.exists() { bundled } else { "mpirun".into() });
    command.args(["--oversubscribe", "-n", &ranks.to_string()]).arg(example());
    for variable in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
        command.env(variable, "1").env(variable.replace("OMPI", "PRTE"), "1");
    }
    command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    if let Some(seconds) = timeout {
        command.env("OMPI_MCA_odls_base_sigkill_timeout", seconds.to_string());
    }
    command
}

impl Job {
    /// Starts the ranks and waits until all are monitored.
    fn start(mut command: Command, ranks: usize, arguments: &[&str]) -> Self {
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("mpirun starts");
        let errors = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            errors.lines().map_while(Result::ok).take_while(|line| sender.send(line.clone()).is_ok()).count()
        });
        let mut job = Self { child, lines, output: String::new(), pids: BTreeMap::new() };
        while job.pids.len() < ranks {
            let line = job.line();
            if let Some((_, numbers_text)) = line.split_once("ready ") {
                let numbers: Vec<i32> = numbers_text.split(' ').map_while(|word| word.parse().ok()).collect();
                job.pids.insert(numbers[0] as usize, numbers[1]);
            }
        }
        job
    }

    fn line(&mut self) -> String {
        let line = self.lines.recv_timeout(TIMEOUT);
        let line = line.unwrap_or_else(|error| panic!("{error} after\n{}", self.output));
        self.append(&line);
        line
    }

    fn append(&mut self, line: &str) {
        self.output.push_str(line);
        self.output.push('\n');
    }

    fn send(&self, rank: usize, signal: Signal) -> Instant {
        kill(Pid::from_raw(self.pids[&rank]), signal).expect("the rank runs");
        Instant::now()
    }

    /// Waits for the end of the job and measures the time since `since`.
    fn end(mut self, since: Instant) -> EndedJob {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("mpirun can be waited for") {
                break status;
            }
            assert!(since.elapsed() < TIMEOUT, "hangs after\n{}", self.output);
            match self.lines.recv_timeout(Duration::from_millis(10)) {
                Ok(line) => self.append(&line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let after = since.elapsed();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(500)) {
            self.append(&line);
        }
        EndedJob { status, output: self.output, pids: self.pids, after }
    }
}

impl EndedJob {
    /// Asserts that the job failed within `limit`, that its output contains `start`, and that no process remains.
    fn assert_failed_with(&self, start: &str, limit: Duration) {
        let Self { output, after, status, .. } = self;
        assert!(!status.success(), "{status}\n{output}");
        assert!(output.contains(start), "no {start:?} in\n{output}");
        assert!(*after <= limit, "after {after:?}, limit {limit:?}\n{output}");
        for (rank, pid) in &self.pids {
            // A rank that has ended is a zombie until its new parent reaps it.
            let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat"));
            let ended = || stat().map_or(true, |stat| stat.contains(") Z "));
            let waited = Instant::now();
            while !ended() && waited.elapsed() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(ended(), "rank {rank} still runs\n{output}");
        }
    }

    fn verdicts(&self) -> Vec<&str> {
        self.output.lines().filter(|line| line.contains("verdict on ")).collect()
    }

    fn assert_success(&self) {
        assert!(self.status.success() && self.verdicts().is_empty(), "{}\n{}", self.status, self.output);
    }
}

fn arguments<'a>(scenario: &'a str, rank: &'a str) -> [&'a str; 3] {
    [scenario, rank, "2000"]
}

#[test]
fn a_killed_rank_is_reported_at_once() {
    for (ranks, victim) in [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)] {
        let job = Job::start(mpirun(ranks, None), ranks, &arguments("wait", &victim.to_string()));
        std::thread::sleep(Duration::from_millis(600));
        let killed = job.send(victim, Signal::SIGKILL);
        let pid = job.pids[&victim];
        let ended = job.end(killed);
        ended.assert_failed_with(&format!("rank {victim} on "), DEATH_LIMIT);
        let sentence = format!("(pid {pid}) died after step 17 (training, in forward)");
        assert!(ended.verdicts().iter().all(|line| line.contains(&sentence)), "{}", ended.output);
        assert_eq!(ended.verdicts().len(), ranks - 1, "a verdict from every other rank\n{}", ended.output);
    }
}

#[test]
fn a_rank_killed_in_a_collective_is_reported() {
    let job = Job::start(mpirun(4, None), 4, &arguments("wait", "1"));
    std::thread::sleep(Duration::from_millis(600));
    let killed = job.send(3, Signal::SIGKILL);
    let ended = job.end(killed);
    ended.assert_failed_with("rank 3 on ", DEATH_LIMIT);
    assert!(ended.output.contains("died after step 17 (training, in all_reduce)"), "{}", ended.output);
}

#[test]
fn an_mpirun_with_a_long_kill_timeout_ends_after_a_death() {
    for victim in [0, 2] {
        let job = Job::start(mpirun(3, Some(30)), 3, &arguments("wait", "1"));
        let killed = job.send(victim, Signal::SIGKILL);
        job.end(killed).assert_failed_with(&format!("rank {victim} on "), DEATH_LIMIT);
    }
}

#[test]
fn a_rank_that_exits_without_goodbye_counts_as_dead() {
    let job = Job::start(mpirun(2, Some(30)), 2, &arguments("quit", "1"));
    job.end(Instant::now()).assert_failed_with("rank 1 on ", DEATH_LIMIT);
}

#[test]
fn a_stopped_rank_is_reported_and_killed() {
    for (ranks, victim, timeout) in [(2, 1, None), (3, 0, Some(30)), (3, 2, Some(30))] {
        let job = Job::start(mpirun(ranks, timeout), ranks, &arguments("wait", &victim.to_string()));
        let stopped = job.send(victim, Signal::SIGSTOP);
        let ended = job.end(stopped);
        ended.assert_failed_with(&format!("rank {victim} on "), SILENCE + Duration::from_secs(2));
        assert!(ended.output.contains("has not answered for 2."), "{}", ended.output);
        assert!(ended.output.contains("it is stopped or unreachable"), "{}", ended.output);
    }
}

#[test]
fn a_short_stop_of_either_rank_is_no_failure() {
    let mut job = Job::start(mpirun(2, None), 2, &["wait", "1", "2000", "1500"]);
    for rank in [0, 1] {
        job.send(rank, Signal::SIGSTOP);
        std::thread::sleep(Duration::from_millis(1300));
        job.send(rank, Signal::SIGCONT);
        std::thread::sleep(Duration::from_millis(700));
    }
    // Stops both ranks for longer than `SILENCE`, as a user does who suspends the job.
    for (signal, pause) in [(Signal::SIGSTOP, 2500), (Signal::SIGCONT, 1200)] {
        for &rank in job.pids.keys() {
            job.send(rank, signal);
        }
        std::thread::sleep(Duration::from_millis(pause));
    }
    assert_eq!(job.child.try_wait().unwrap(), None, "the job has ended");
    let killed = job.send(1, Signal::SIGKILL);
    let ended = job.end(killed);
    ended.assert_failed_with("rank 1 on ", DEATH_LIMIT);
    assert!(ended.verdicts().iter().all(|line| line.contains("died")), "{}", ended.output);
}

#[test]
fn a_stuck_rank_is_reported_with_its_stack_while_the_others_hang_in_mpi() {
    for (ranks, culprit) in [(2, 0), (3, 1), (4, 3)] {
        let job =
            Job::start(mpirun(ranks, Some(30)), ranks, &["stuck", &culprit.to_string(), "2000", "1500"]);
        let ended = job.end(Instant::now());
        ended.assert_failed_with(&format!("rank {culprit} on "), Duration::from_millis(1500) + DEATH_LIMIT);
        assert!(
            ended.output.contains("(limit 1.5 s) after step 17 (training, in starting)"),
            "{}",
            ended.output
        );
        let reason = if ranks > 2 {
            "; the others wait for it in all_reduce"
        } else {
            "; rank 1 waits for it in all_reduce"
        };
        assert!(ended.output.contains(reason), "{}", ended.output);
        assert!(ended.output.contains("watched_ranks::sleep_in_a_loop"), "the stack\n{}", ended.output);
        assert_eq!(ended.verdicts().len(), ranks, "a verdict from every rank\n{}", ended.output);
    }
}

#[test]
fn a_rank_in_another_collective_is_reported() {
    let job = Job::start(mpirun(3, Some(30)), 3, &["wrong", "1", "2000", "1500"]);
    let ended = job.end(Instant::now());
    ended.assert_failed_with("rank 1 on ", Duration::from_millis(1500) + DEATH_LIMIT);
    let reason = "is barrier, but that of rank 0 is all_reduce";
    assert!(ended.output.contains(reason), "{}", ended.output);
}

#[test]
fn a_single_rank_monitors_itself() {
    let mut alone = Command::new(example());
    alone.env_remove("OMPI_COMM_WORLD_SIZE");
    let job = Job::start(alone, 1, &["stuck", "0", "2000", "1000"]);
    let ended = job.end(Instant::now());
    ended.assert_failed_with("rank 0 on ", Duration::from_secs(1) + DEATH_LIMIT);
    assert!(ended.output.contains("sleep_in_a_loop"), "{}", ended.output);
    assert_eq!(ended.status.code(), Some(1));
}

#[test]
fn ranks_that_finish_seconds_apart_end_without_a_verdict() {
    let job = Job::start(mpirun(3, None), 3, &["finish", "0", "1500", "10000"]);
    job.end(Instant::now()).assert_success();
}

#[test]
fn waiting_for_a_slow_rank_is_no_failure() {
    let job = Job::start(mpirun(3, None), 3, &["slow", "1", "2000", "1000"]);
    job.end(Instant::now()).assert_success();
}

#[test]
fn ranks_that_start_at_different_times_connect() {
    let job = Job::start(mpirun(4, None), 4, &arguments("stagger", "0"));
    job.end(Instant::now()).assert_success();
}

#[test]
fn foreign_clients_do_not_disturb_the_job() {
    let mut job = Job::start(mpirun(2, None), 2, &["finish", "0", "1500"]);
    let addresses = job
        .output
        .lines()
        .find_map(|line| line.split_once("listening on ["))
        .expect("rank 0 logs its addresses")
        .1;
    let port = addresses.split("127.0.0.1:").nth(1).unwrap().split([',', ']']).next().unwrap().to_owned();
    let connect = || TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    // A silent client, many slow ones, garbage, a wrong proof, a huge frame.
    let mut silent: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    for (at, stream) in silent.iter_mut().enumerate().skip(1) {
        let _ = stream.write_all(&[at as u8]);
    }
    drop(silent.split_off(60));
    for garbage in [vec![0xff; 1 << 16], b"GET / HTTP/1.1\r\n\r\n".repeat(10), vec![0; 64]] {
        let mut stream = connect();
        let _ = stream.write_all(&garbage);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() <= 40, "a foreign client receives only the challenge, not {answer:?}");
    }
    while !job.output.contains("rejected") {
        job.line();
    }
    job.end(Instant::now()).assert_success();
}
