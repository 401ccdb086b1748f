//! One attempt to run the ranks, from the command to the exit of the last process.

use super::command::RankCommand;
use super::end::{AttemptEnd, Before};
use super::first_failure::{FailedRank, Scanner, relay};
use super::processes::StoppedProcess;
use super::report::EventLog;
use super::signals::SignalCounts;
use super::stopped::StoppedClock;
use super::{StartError, processes, signals};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use protocol::Outcome;
use protocol::terminal::{OutputReader, print_as_is, say};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Polling interval for the ranks.
const LOOK: Duration = Duration::from_millis(20);
/// Time for the ranks to exit after the first Ctrl-C; the trainer itself exits after four seconds.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which a request is repeated to ranks that have not exited: a signal that arrives while `mpirun` or `ssh`
/// is still starting them may be lost.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Time in which killed processes must be gone.
const KILL_TAKES: Duration = Duration::from_secs(5);

/// Starts the ranks, forwards requests, waits for the end, and leaves no process behind. A process that a signal stops
/// for longer than `stopped_seconds` ends the attempt.
pub fn attempt(
    start: &RankCommand,
    run: Option<&Path>,
    stopped_seconds: u32,
    report: EventLog,
) -> Result<AttemptEnd, StartError> {
    let before = Before::of(run);
    let mut ranks = RankProcesses::spawn(start, report.json)?;
    let (status, stopped) = match ranks.wait(stopped_seconds, report).map_err(StartError::Watch)? {
        WaitEnd::Ended(status) => (status, None),
        WaitEnd::Stopped(stopped) => (exited(Outcome::FAILED), Some(stopped)),
    };
    let heard = ranks.clear();
    let rank = stopped.as_ref().and_then(FailedRank::stopped).or(heard);
    let mut end = before.end(exit_code(status), rank);
    if let Some(stopped) = stopped {
        end.message = Some(stopped.to_string());
    }
    Ok(end)
}

/// The exit code of a process; 128 plus the signal number if it was killed.
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Why the wait for the ranks ended.
enum WaitEnd {
    /// The ranks exited.
    Ended(ExitStatus),
    /// This process ended them because a signal had stopped one for too long.
    Stopped(StoppedProcess),
}

/// The status of a process that exited with this code.
fn exited(code: u8) -> ExitStatus {
    ExitStatus::from_raw(i32::from(code) << 8)
}

struct RankProcesses {
    child: Child,
    through_mpirun: bool,
    relay: Option<JoinHandle<Scanner>>,
    output: Option<JoinHandle<()>>,
}

impl RankProcesses {
    fn spawn(start: &RankCommand, json: bool) -> Result<Self, StartError> {
        let mut command = start.command();
        let through_mpirun = start.through_mpirun();
        if json {
            command.stdout(io::stderr());
        } else if through_mpirun {
            // mpirun itself silently drops output that it cannot write.
            command.stdout(Stdio::piped());
        }
        if through_mpirun {
            command.stderr(Stdio::piped());
        }
        // The terminal sends Ctrl-C to the whole process group; ranks must receive it only once, from here.
        command.process_group(0);
        end_with_this_process(&mut command);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|source| {
            if through_mpirun {
                StartError::NoMpirun { program, source }
            } else {
                StartError::Trainer { program, source }
            }
        })?;
        let (relay, output) = (child.stderr.take().map(relay), child.stdout.take().map(pass_on));
        Ok(Self { child, through_mpirun, relay, output })
    }

    fn wait(&mut self, stopped_seconds: u32, report: EventLog) -> io::Result<WaitEnd> {
        // A request that arrived before the ranks started applies to them, too.
        let mut seen = SignalCounts::default();
        let mut deadline = None;
        let mut asked: Option<Instant> = None;
        let mut watch = StoppedClock::new(stopped_seconds);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(WaitEnd::Ended(status));
            }
            if let Some(stopped) = watch.look() {
                processes::end_all_below(KILL_TAKES);
                return Ok(WaitEnd::Stopped(stopped));
            }
            let requests = signals::requests();
            if requests.interrupts > 1 || deadline.is_some_and(|at| Instant::now() > at) {
                processes::end_all_below(KILL_TAKES);
                return Ok(WaitEnd::Ended(exited(Outcome::INTERRUPTED)));
            }
            if requests.interrupts > seen.interrupts {
                self.interrupt();
                deadline = Some(Instant::now() + TIMEOUT);
            }
            let again = asked.is_some_and(|at| at.elapsed() >= ASK_AGAIN);
            if requests.preemptions > seen.preemptions || again {
                self.signal_ranks(Signal::SIGUSR2);
                asked = Some(Instant::now());
            }
            if seen == SignalCounts::default() && requests != seen {
                report.asked(signals::last(), requests.interrupts > 0);
            }
            seen = requests;
            std::thread::sleep(LOOK);
        }
    }

    /// Forwards Ctrl-C. It is enough that one rank receives it, because ranks agree on it. `mpirun` does not forward
    /// INT but ends its ranks, so the signal is sent to the ranks directly. If no rank is on this machine, they are
    /// asked to save and stop instead.
    fn interrupt(&self) {
        let ranks = if self.through_mpirun { processes::ranks_below(self.pid()) } else { vec![self.pid()] };
        for rank in &ranks {
            // A process that has exited in the meantime needs no signal.
            let _ = kill(*rank, Signal::SIGINT);
        }
        if ranks.is_empty() {
            self.signal_ranks(Signal::SIGUSR2);
        }
    }

    /// `mpirun` forwards USR1 and USR2 to all ranks; on TERM it would kill them shortly afterwards.
    fn signal_ranks(&self, signal: Signal) {
        let _ = kill(self.pid(), signal);
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Kills the remaining processes and returns the rank that failed first.
    fn clear(self) -> Option<FailedRank> {
        let left = processes::end_all_below(KILL_TAKES);
        if left > 0 {
            say(format_args!("lift: cannot kill {left} processes; they wait for a device or a file system"));
            return None;
        }
        let _ = self.output.map(JoinHandle::join);
        self.relay?.join().ok()?.found()
    }
}

/// The kernel kills the command when this process ends for any reason. The ranks below it then notice that it is gone
/// ([`orphan`](protocol::orphan)).
pub(crate) fn end_with_this_process(command: &mut Command) {
    let parent = Pid::this();
    let prepare = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have exited before the call above.
        if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    // SAFETY: between fork and exec only `prctl` and `getppid` are called, which are async-signal-safe, and nothing
    // is allocated: both errors are plain numbers.
    unsafe { command.pre_exec(prepare) };
}

/// Copies the output of the ranks to standard output. The first failure is reported and the rest of the output is
/// dropped; the ranks continue.
fn pass_on(mut from: impl Read + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut bytes = [0; 8192];
        let mut is_read = true;
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if !is_read {
                continue;
            }
            let printed = print_as_is(&bytes[..count]);
            is_read = matches!(printed, Ok(OutputReader::There));
            if let Err(error) = printed {
                say(format_args!("lift: {error}; further output of the ranks is lost"));
            }
        }
    })
}
