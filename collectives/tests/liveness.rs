//! Ranks as processes, in trouble: who is named, how soon, and what is left.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// After this a test fails instead of hanging.
const HANGS: Duration = Duration::from_mins(1);

/// From a rank's death to the end of the job.
const DEATH: Duration = Duration::from_secs(3);

/// How long a rank may be unheard in these tests.
const SILENCE: Duration = Duration::from_secs(2);

/// A running job, with what it said so far.
struct Job {
    child: Child,
    lines: Receiver<String>,
    said: String,
    pids: BTreeMap<usize, i32>,
}

/// What is left of a job that has ended.
struct Ended {
    status: ExitStatus,
    said: String,
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

/// `mpirun` for ranks on this machine, also as root, as patient between TERM and KILL as it is told.
fn mpirun(ranks: usize, timeout: Option<u32>) -> Command {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.mpi/bin/mpirun");
    let mut command = Command::new(if beside.exists() { beside } else { "mpirun".into() });
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
    /// Starts ranks and waits until each is watched.
    fn start(mut command: Command, ranks: usize, arguments: &[&str]) -> Self {
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("mpirun starts");
        let errors = BufReader::new(child.stderr.take().expect("it is piped"));
        let (say, lines) = channel();
        std::thread::spawn(move || {
            errors.lines().map_while(Result::ok).take_while(|line| say.send(line.clone()).is_ok()).count()
        });
        let mut job = Self { child, lines, said: String::new(), pids: BTreeMap::new() };
        while job.pids.len() < ranks {
            let line = job.line();
            if let Some((_, words)) = line.split_once("ready ") {
                let numbers: Vec<i32> = words.split(' ').map_while(|word| word.parse().ok()).collect();
                job.pids.insert(numbers[0] as usize, numbers[1]);
            }
        }
        job
    }

    fn line(&mut self) -> String {
        let line = self.lines.recv_timeout(HANGS);
        let line = line.unwrap_or_else(|error| panic!("{error} after\n{}", self.said));
        self.hear(&line);
        line
    }

    fn hear(&mut self, line: &str) {
        self.said.push_str(line);
        self.said.push('\n');
    }

    fn send(&self, rank: usize, signal: Signal) -> Instant {
        kill(Pid::from_raw(self.pids[&rank]), signal).expect("the rank is there");
        Instant::now()
    }

    /// Waits for the end, counted from `since`.
    fn end(mut self, since: Instant) -> Ended {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("mpirun can be waited for") {
                break status;
            }
            assert!(since.elapsed() < HANGS, "hangs after\n{}", self.said);
            match self.lines.recv_timeout(Duration::from_millis(10)) {
                Ok(line) => self.hear(&line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let after = since.elapsed();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(500)) {
            self.hear(&line);
        }
        Ended { status, said: self.said, pids: self.pids, after }
    }
}

impl Ended {
    /// The job failed in time, named the rank, and left no process behind.
    fn named(&self, start: &str, limit: Duration) {
        let Self { said, after, status, .. } = self;
        assert!(!status.success(), "{status}\n{said}");
        assert!(said.contains(start), "no {start:?} in\n{said}");
        assert!(*after <= limit, "after {after:?}, limit {limit:?}\n{said}");
        for (rank, pid) in &self.pids {
            // One that ended may wait for its parent, which ended as well, to take note.
            let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat"));
            let gone = || stat().map_or(true, |stat| stat.contains(") Z "));
            let waited = Instant::now();
            while !gone() && waited.elapsed() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(gone(), "rank {rank} is still there\n{said}");
        }
    }

    fn verdicts(&self) -> Vec<&str> {
        self.said.lines().filter(|line| line.contains("verdict on ")).collect()
    }

    fn ended_well(&self) {
        assert!(self.status.success() && self.verdicts().is_empty(), "{}\n{}", self.status, self.said);
    }
}

fn arguments<'a>(scenario: &'a str, rank: &'a str) -> [&'a str; 3] {
    [scenario, rank, "2000"]
}

#[test]
fn a_killed_rank_is_named_at_once_whichever_it_is() {
    for (ranks, victim) in [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)] {
        let job = Job::start(mpirun(ranks, None), ranks, &arguments("wait", &victim.to_string()));
        std::thread::sleep(Duration::from_millis(600));
        let killed = job.send(victim, Signal::SIGKILL);
        let pid = job.pids[&victim];
        let ended = job.end(killed);
        ended.named(&format!("rank {victim} on "), DEATH);
        let sentence = format!("(pid {pid}) died after step 17 (training, in forward)");
        assert!(ended.verdicts().iter().all(|line| line.contains(&sentence)), "{}", ended.said);
        assert_eq!(ended.verdicts().len(), ranks - 1, "every other rank says it\n{}", ended.said);
    }
}

#[test]
fn a_killed_rank_of_those_that_wait_is_named_as_well() {
    let job = Job::start(mpirun(4, None), 4, &arguments("wait", "1"));
    std::thread::sleep(Duration::from_millis(600));
    let killed = job.send(3, Signal::SIGKILL);
    let ended = job.end(killed);
    ended.named("rank 3 on ", DEATH);
    assert!(ended.said.contains("died after step 17 (training, in all_reduce)"), "{}", ended.said);
}

#[test]
fn a_patient_mpirun_does_not_outlast_a_dead_rank() {
    for victim in [0, 2] {
        let job = Job::start(mpirun(3, Some(30)), 3, &arguments("wait", "1"));
        let killed = job.send(victim, Signal::SIGKILL);
        job.end(killed).named(&format!("rank {victim} on "), DEATH);
    }
}

#[test]
fn a_rank_that_exits_without_goodbye_is_dead() {
    let job = Job::start(mpirun(2, Some(30)), 2, &arguments("quit", "1"));
    job.end(Instant::now()).named("rank 1 on ", DEATH);
}

#[test]
fn a_stopped_rank_is_named_and_killed() {
    for (ranks, victim, timeout) in [(2, 1, None), (3, 0, Some(30)), (3, 2, Some(30))] {
        let job = Job::start(mpirun(ranks, timeout), ranks, &arguments("wait", &victim.to_string()));
        let stopped = job.send(victim, Signal::SIGSTOP);
        let ended = job.end(stopped);
        ended.named(&format!("rank {victim} on "), SILENCE + Duration::from_secs(2));
        assert!(ended.said.contains("has not answered for 2."), "{}", ended.said);
        assert!(ended.said.contains("it is stopped or unreachable"), "{}", ended.said);
    }
}

#[test]
fn a_short_stop_is_forgiven_on_both_sides() {
    let mut job = Job::start(mpirun(2, None), 2, &["wait", "1", "2000", "1500"]);
    for rank in [0, 1] {
        job.send(rank, Signal::SIGSTOP);
        std::thread::sleep(Duration::from_millis(1300));
        job.send(rank, Signal::SIGCONT);
        std::thread::sleep(Duration::from_millis(700));
    }
    // Both at once for longer than the silence, as when a person stops the job.
    for (signal, pause) in [(Signal::SIGSTOP, 2500), (Signal::SIGCONT, 1200)] {
        for &rank in job.pids.keys() {
            job.send(rank, signal);
        }
        std::thread::sleep(Duration::from_millis(pause));
    }
    assert_eq!(job.child.try_wait().unwrap(), None, "the job is over");
    let killed = job.send(1, Signal::SIGKILL);
    let ended = job.end(killed);
    ended.named("rank 1 on ", DEATH);
    assert!(ended.verdicts().iter().all(|line| line.contains("died")), "{}", ended.said);
}

#[test]
fn a_stuck_rank_is_named_with_its_stack_although_the_others_hang_in_mpi() {
    for (ranks, culprit) in [(2, 0), (3, 1), (4, 3)] {
        let job =
            Job::start(mpirun(ranks, Some(30)), ranks, &["stuck", &culprit.to_string(), "2000", "1500"]);
        let ended = job.end(Instant::now());
        ended.named(&format!("rank {culprit} on "), Duration::from_millis(1500) + DEATH);
        assert!(ended.said.contains("(limit 1.5 s) after step 17 (training, in starting)"), "{}", ended.said);
        let reason = if ranks > 2 {
            "; the others wait for it in all_reduce"
        } else {
            "; rank 1 waits for it in all_reduce"
        };
        assert!(ended.said.contains(reason), "{}", ended.said);
        assert!(ended.said.contains("watched_ranks::dozes_in_a_loop"), "the stack\n{}", ended.said);
        assert_eq!(ended.verdicts().len(), ranks, "every rank says it\n{}", ended.said);
    }
}

#[test]
fn a_rank_in_another_collective_is_named() {
    let job = Job::start(mpirun(3, Some(30)), 3, &["wrong", "1", "2000", "1500"]);
    let ended = job.end(Instant::now());
    ended.named("rank 1 on ", Duration::from_millis(1500) + DEATH);
    let reason = "is barrier, but that of rank 0 is all_reduce";
    assert!(ended.said.contains(reason), "{}", ended.said);
}

#[test]
fn a_single_rank_watches_itself() {
    let mut alone = Command::new(example());
    alone.env_remove("OMPI_COMM_WORLD_SIZE");
    let job = Job::start(alone, 1, &["stuck", "0", "2000", "1000"]);
    let ended = job.end(Instant::now());
    ended.named("rank 0 on ", Duration::from_secs(1) + DEATH);
    assert!(ended.said.contains("dozes_in_a_loop"), "{}", ended.said);
    assert_eq!(ended.status.code(), Some(1));
}

#[test]
fn ranks_that_finish_seconds_apart_end_without_a_verdict() {
    let job = Job::start(mpirun(3, None), 3, &["finish", "0", "1500", "10000"]);
    job.end(Instant::now()).ended_well();
}

#[test]
fn waiting_for_a_slow_rank_is_no_fault() {
    let job = Job::start(mpirun(3, None), 3, &["slow", "1", "2000", "1000"]);
    job.end(Instant::now()).ended_well();
}

#[test]
fn ranks_that_start_apart_find_each_other() {
    let job = Job::start(mpirun(4, None), 4, &arguments("stagger", "0"));
    job.end(Instant::now()).ended_well();
}

#[test]
fn strangers_disturb_nobody() {
    let mut job = Job::start(mpirun(2, None), 2, &["finish", "0", "1500"]);
    let addresses =
        job.said.lines().find_map(|line| line.split_once("listening on [")).expect("it says where").1;
    let port = addresses.split("127.0.0.1:").nth(1).unwrap().split([',', ']']).next().unwrap().to_owned();
    let connect = || TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    // One that says nothing, many that say it slowly, garbage, a wrong proof, a huge frame.
    let mut quiet: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    for (at, stream) in quiet.iter_mut().enumerate().skip(1) {
        let _ = stream.write_all(&[at as u8]);
    }
    drop(quiet.split_off(60));
    for garbage in [vec![0xff; 1 << 16], b"GET / HTTP/1.1\r\n\r\n".repeat(10), vec![0; 64]] {
        let mut stream = connect();
        let _ = stream.write_all(&garbage);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() <= 40, "a stranger is told nothing but the challenge, not {answer:?}");
    }
    while !job.said.contains("turned away") {
        job.line();
    }
    job.end(Instant::now()).ended_well();
}
