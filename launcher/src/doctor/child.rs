//! Questions to other programs, each with a time limit.
//!
//! What may hang (a driver, a network file system, a controller that does not answer) is asked in a child process: a
//! process that hangs in the kernel cannot be ended, but it can be left behind.

use crate::run::end_with_this_process;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use protocol::probe::merged;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Polling interval for the child.
const LOOK: Duration = Duration::from_millis(5);
/// Time in which a killed child must be gone.
const KILL_TAKES: Duration = Duration::from_millis(200);
/// Longest output that is read.
const LONGEST: u64 = 1 << 20;

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChildEnd {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Not within this time.
    TimedOut(Duration),
    /// It could not be started.
    NotStarted(String),
}

/// How a child ended, and what it said until then.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) end: ChildEnd,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Answer {
    /// Whether it ended with exit code 0.
    pub(super) fn is_success(&self) -> bool {
        self.end == ChildEnd::Exited(0)
    }

    /// The facts that it printed, one JSON object per line, as far as it got.
    pub(super) fn facts<T: DeserializeOwned + Default>(&self) -> T {
        merged(&self.stdout)
    }

    /// What went wrong, in a few words; `None` if it ended with exit code 0.
    pub(super) fn failure(&self) -> Option<String> {
        let last = self.stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
        match &self.end {
            ChildEnd::Exited(0) => None,
            ChildEnd::Exited(code) => {
                Some(last.map_or_else(|| format!("ended with exit code {code}"), str::to_owned))
            }
            ChildEnd::Killed(signal) => Some(match Signal::try_from(*signal) {
                Ok(name) => format!("was ended by the signal {name}"),
                Err(_) => format!("was ended by signal {signal}"),
            }),
            ChildEnd::TimedOut(limit) => Some(format!("did not answer within {} s", limit.as_secs_f32())),
            ChildEnd::NotStarted(error) => Some(error.clone()),
        }
    }
}

/// Runs a command to its end, or kills it and its children after `limit`. It reads nothing.
pub(super) fn ask(command: &mut Command, limit: Duration) -> Answer {
    let begun = start(command);
    let (mut child, mut outputs) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let end = ChildEnd::NotStarted(error.to_string());
            return Answer { end, stdout: String::new(), stderr: String::new() };
        }
    };
    let end = wait(&mut child, limit).unwrap_or_else(|| {
        // The group: a child of the child may hold what it waits for. A process that has ended needs no signal.
        let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
        let _ = wait(&mut child, KILL_TAKES);
        ChildEnd::TimedOut(limit)
    });
    let [stdout, stderr] = outputs.each_mut().map(text);
    Answer { end, stdout, stderr }
}

/// Starts the command with its output in memory: a pipe could fill up, and a file needs a disk that works.
fn start(command: &mut Command) -> io::Result<(Child, [File; 2])> {
    let file = || memfd_create(c"lift-doctor", MFdFlags::MFD_CLOEXEC).map(File::from);
    let outputs = [file()?, file()?];
    command.stdin(Stdio::null()).stdout(outputs[0].try_clone()?).stderr(outputs[1].try_clone()?);
    command.process_group(0);
    end_with_this_process(command);
    Ok((command.spawn()?, outputs))
}

fn wait(child: &mut Child, limit: Duration) -> Option<ChildEnd> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                let end = status.code().map(ChildEnd::Exited);
                return Some(end.unwrap_or_else(|| ChildEnd::Killed(status.signal().unwrap_or(0))));
            }
            Ok(None) if start.elapsed() < limit => std::thread::sleep(LOOK),
            Ok(None) => return None,
            Err(error) => return Some(ChildEnd::NotStarted(error.to_string())),
        }
    }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // Memory is always readable; if it is not, the child has said nothing.
    let _ = file.rewind().and_then(|()| file.take(LONGEST).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: f64) -> Answer {
        ask(Command::new("sh").args(["-c", script]), Duration::from_secs_f64(limit))
    }

    #[test]
    fn output_and_end_are_told() {
        let answer = shell("echo '{\"a\":1}'; echo first >&2; echo last >&2; exit 3", 60.0);
        assert_eq!((&answer.end, answer.stdout.as_str()), (&ChildEnd::Exited(3), "{\"a\":1}\n"));
        assert_eq!(answer.failure().as_deref(), Some("last"));
        assert_eq!(
            shell("kill -KILL $$", 60.0).failure().as_deref(),
            Some("was ended by the signal SIGKILL")
        );
        assert_eq!(shell("exit 4", 60.0).failure().as_deref(), Some("ended with exit code 4"));
        assert_eq!(shell("true", 60.0).failure(), None);
        let absent = ask(&mut Command::new("/nowhere/program"), Duration::from_secs(1));
        assert!(matches!(absent.end, ChildEnd::NotStarted(_)), "{absent:?}");
    }

    #[test]
    fn what_hangs_is_ended_with_its_children_and_what_it_said_is_kept() {
        let start = Instant::now();
        let answer = shell("echo '{\"a\":1}'; sleep 600 & sleep 600", 0.5);
        assert!(start.elapsed() < Duration::from_mins(1));
        assert_eq!(answer.end, ChildEnd::TimedOut(Duration::from_millis(500)));
        assert_eq!(answer.failure().as_deref(), Some("did not answer within 0.5 s"));
        let said: serde_json::Map<String, serde_json::Value> = answer.facts();
        assert_eq!(said["a"], 1);
    }
}
