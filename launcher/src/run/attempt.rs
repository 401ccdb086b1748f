//! One start of the ranks: from the command to the last process.

use super::command::Start;
use super::first_failure::{FailedRank, Scanner};
use super::processes::Stopped;
use super::report::Report;
use super::signals::Wishes;
use super::stopped::Watch;
use super::{RunError, processes, signals};
use crate::protocol::{Outcome, Status, layout};
use crate::terminal::{Reader, print_as_is, say};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two looks at the ranks.
const LOOK: Duration = Duration::from_millis(20);
/// Time that ranks have after the person's first Ctrl-C; the trainer itself ends after four seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time after which ranks that have not ended are asked again: what comes while `mpirun` or `ssh` still starts them may
/// be lost.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Time in which killed processes are gone.
const KILL_TAKES: Duration = Duration::from_secs(5);

/// How a start of the ranks ended.
#[derive(Debug)]
pub struct End {
    /// What `status.json` says, or what the exit code hints at.
    pub outcome: Outcome,
    /// Exit code of `mpirun` or of the only rank; 128 and the signal for one that was killed.
    pub code: i32,
    /// Steps of the whole run.
    pub step: u64,
    /// The rank that failed first, where it is known.
    pub rank: Option<FailedRank>,
    /// What the run itself says about its end.
    pub message: Option<String>,
    /// Whether ranks were started at all.
    pub ranks: bool,
}

impl End {
    /// Of a start that started no rank, and why.
    pub fn without_ranks(outcome: Outcome, run: Option<&Path>, message: Option<String>) -> Self {
        let step = run.map_or(0, |run| steps(run, Status::read(run).ok().as_ref()));
        Self { outcome, code: i32::from(outcome.exit_code()), step, rank: None, message, ranks: false }
    }
}

/// Starts the ranks, passes wishes on, waits for the end, and leaves no process behind. A process that a signal stops for
/// longer than `stopped_seconds` is the end of all.
pub fn attempt(
    start: &Start,
    run: Option<&Path>,
    stopped_seconds: u32,
    report: Report,
) -> Result<End, RunError> {
    let before = run.and_then(|run| Status::read(run).ok());
    let mut ranks = Ranks::spawn(start, report.json)?;
    let (status, stopped) = match ranks.wait(stopped_seconds, report).map_err(RunError::Watch)? {
        Finish::Ended(status) => (status, None),
        Finish::Stopped(stopped) => (exited(Outcome::FAILED), Some(stopped)),
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    let heard = ranks.clear();
    let rank = stopped.as_ref().and_then(FailedRank::stopped).or(heard);
    let after = run.and_then(|run| Status::read(run).ok()).filter(|after| before.as_ref() != Some(after));
    let hint = Outcome::from_exit_code(code);
    let outcome = match &after {
        Some(status) => status.outcome.unwrap_or_else(|| unfinished(hint)),
        None => hint,
    };
    let step = run.map_or(0, |run| steps(run, after.as_ref().or(before.as_ref())));
    let message = stopped.map(|stopped| stopped.to_string());
    let message = message.or_else(|| after?.message);
    Ok(End { outcome, code, step, rank, message, ranks: true })
}

/// A run that did not come to say how it ended: no exit code makes that a success.
const fn unfinished(hint: Outcome) -> Outcome {
    if matches!(hint, Outcome::Done) { Outcome::Failed } else { hint }
}

/// Steps done: those of the status, or those of the newest checkpoint, which may be further.
fn steps(run: &Path, status: Option<&Status>) -> u64 {
    let names = std::fs::read_dir(run.join(layout::CHECKPOINTS)).into_iter().flatten().flatten();
    let newest = names.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok()).max();
    status.map_or(0, |status| status.step).max(newest.unwrap_or(0))
}

/// How waiting for the ranks came to its end.
enum Finish {
    /// By theirs.
    Ended(ExitStatus),
    /// By this process, since a signal had stopped one for too long.
    Stopped(Stopped),
}

/// The status of a process that ended with this code.
fn exited(code: u8) -> ExitStatus {
    ExitStatus::from_raw(i32::from(code) << 8)
}

struct Ranks {
    child: Child,
    through_mpirun: bool,
    relay: Option<JoinHandle<Scanner>>,
    output: Option<JoinHandle<()>>,
}

impl Ranks {
    fn spawn(start: &Start, json: bool) -> Result<Self, RunError> {
        let mut command = start.command();
        let through_mpirun = start.through_mpirun();
        if json {
            command.stdout(io::stderr());
        } else if through_mpirun {
            // It would drop without a word what cannot be written.
            command.stdout(Stdio::piped());
        }
        if through_mpirun {
            command.stderr(Stdio::piped());
        }
        // The terminal sends Ctrl-C to this process's group; ranks are to get it once, from here.
        command.process_group(0);
        end_with_this_process(&mut command);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|source| {
            if through_mpirun {
                RunError::NoMpirun { program, source }
            } else {
                RunError::Trainer { program, source }
            }
        })?;
        let (relay, output) = (child.stderr.take().map(relay), child.stdout.take().map(pass_on));
        Ok(Self { child, through_mpirun, relay, output })
    }

    fn wait(&mut self, stopped_seconds: u32, report: Report) -> io::Result<Finish> {
        // A wish that came before the ranks were started is one of theirs.
        let mut seen = Wishes::default();
        let mut deadline = None;
        let mut asked: Option<Instant> = None;
        let mut watch = Watch::new(stopped_seconds);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Finish::Ended(status));
            }
            if let Some(stopped) = watch.look() {
                processes::end_all_below(KILL_TAKES);
                return Ok(Finish::Stopped(stopped));
            }
            let wishes = signals::wishes();
            if wishes.interrupts > 1 || deadline.is_some_and(|at| Instant::now() > at) {
                processes::end_all_below(KILL_TAKES);
                return Ok(Finish::Ended(exited(Outcome::INTERRUPTED)));
            }
            if wishes.interrupts > seen.interrupts {
                self.interrupt();
                deadline = Some(Instant::now() + PATIENCE);
            }
            let again = asked.is_some_and(|at| at.elapsed() >= ASK_AGAIN);
            if wishes.preemptions > seen.preemptions || again {
                self.tell(Signal::SIGUSR2);
                asked = Some(Instant::now());
            }
            if seen == Wishes::default() && wishes != seen {
                report.asked(signals::last(), wishes.interrupts > 0);
            }
            seen = wishes;
            std::thread::sleep(LOOK);
        }
    }

    /// The person's wish: one rank that has it is enough, since ranks agree. `mpirun` passes no INT on, but ends its
    /// ranks; so they get it past it. Where none of them is on this machine, they are asked to save and end.
    fn interrupt(&self) {
        let ranks = if self.through_mpirun { processes::ranks_below(self.pid()) } else { vec![self.pid()] };
        for rank in &ranks {
            // One that is gone by now needs no signal.
            let _ = kill(*rank, Signal::SIGINT);
        }
        if ranks.is_empty() {
            self.tell(Signal::SIGUSR2);
        }
    }

    /// `mpirun` passes USR1 and USR2 on to all ranks; on TERM it would kill them a little later.
    fn tell(&self, signal: Signal) {
        let _ = kill(self.pid(), signal);
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Ends whatever is left, and gives what was learned on the way.
    fn clear(self) -> Option<FailedRank> {
        let left = processes::end_all_below(KILL_TAKES);
        if left > 0 {
            say(format_args!(
                "lift: {left} processes cannot be killed; they wait for a device or a file system"
            ));
            return None;
        }
        let _ = self.output.map(JoinHandle::join);
        self.relay?.join().ok()?.found()
    }
}

/// The kernel kills the command when this process ends, however that comes about. The ranks below it then see that
/// it is gone ([`orphan`](crate::protocol::orphan)).
fn end_with_this_process(command: &mut Command) {
    let parent = Pid::this();
    let prepare = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // It may have ended before the line above.
        if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    // SAFETY: between fork and exec only `prctl` and `getppid` are called, which are async-signal-safe, and nothing
    // is allocated: both errors are plain numbers.
    unsafe { command.pre_exec(prepare) };
}

/// Passes what ranks print on to standard output. Once that fails it is said, and the rest is dropped: the ranks go on.
fn pass_on(mut from: impl Read + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut bytes = [0; 8192];
        let mut is_read = true;
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if !is_read {
                continue;
            }
            let printed = print_as_is(&bytes[..count]);
            is_read = matches!(printed, Ok(Reader::There));
            if let Err(error) = printed {
                say(format_args!("lift: {error}; what the ranks print from here on is lost"));
            }
        }
    })
}

/// Passes a stream on as it is, and looks through it.
fn relay(mut from: impl Read + Send + 'static) -> JoinHandle<Scanner> {
    std::thread::spawn(move || {
        let mut scanner = Scanner::default();
        let mut bytes = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            scanner.look(&bytes[..count]);
            // A terminal that is gone is no reason for ranks to stop.
            let _ = io::stderr().write_all(&bytes[..count]);
        }
        scanner
    })
}
