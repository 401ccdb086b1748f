//! Finds the rank that failed first in the output of `mpirun`, `srun` and the ranks.

use super::processes::StoppedProcess;
use serde::Serialize;
use std::io::{self, Read, Write};
use std::thread::JoinHandle;

/// Longest line that is parsed; a longer one is not a message about a failure.
const LONGEST_LINE: usize = 4096;

/// A rank that failed, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedRank {
    /// Its rank.
    pub rank: usize,
    /// How it ended, if known, e.g. `signal 9 (Killed)`.
    pub how: Option<String>,
}

impl FailedRank {
    /// A rank that a signal has stopped; `None` if the process is not a rank.
    pub fn stopped(stopped: &StoppedProcess) -> Option<Self> {
        Some(Self { rank: stopped.rank?, how: Some(stopped.to_string()) })
    }
}

/// Searches a stream for the first rank that failed, without changing the stream.
#[derive(Debug, Default)]
pub struct Scanner {
    line: Vec<u8>,
    found: Option<FailedRank>,
}

impl Scanner {
    /// Parses the next bytes, which may end in the middle of a line.
    pub fn look(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_of_line();
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(*byte);
            }
        }
    }

    /// The first rank that failed.
    pub fn found(mut self) -> Option<FailedRank> {
        self.end_of_line();
        self.found
    }

    fn end_of_line(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).trim().to_owned();
        match &mut self.found {
            None => self.found = failed_rank(&line),
            Some(failed) if failed.how.is_none() => {
                // The message of mpirun continues on the next line.
                failed.how = line.strip_prefix("Exit code:").map(|code| format!("exit code {}", code.trim()));
            }
            Some(_) => {}
        }
    }
}

/// Copies a stream unchanged to standard error, and searches it.
pub fn relay(mut from: impl Read + Send + 'static) -> JoinHandle<Scanner> {
    std::thread::spawn(move || {
        let mut scanner = Scanner::default();
        let mut bytes = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            scanner.look(&bytes[..count]);
            // Ranks continue when the terminal is gone.
            let _ = io::stderr().write_all(&bytes[..count]);
        }
        scanner
    })
}

/// The rank at the start of a run's message: `rank 3: ...` or `rank 3 died ...`.
pub fn rank_of_message(message: &str) -> Option<usize> {
    let (number, _) = message.strip_prefix("rank ")?.split_once([' ', ':'])?;
    number.parse().ok()
}

/// A line of Open MPI 4 or 5, of Slurm, or of a trainer that could not agree with the others.
fn failed_rank(line: &str) -> Option<FailedRank> {
    let number = |text: &str| text.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok();
    if let Some((_, rest)) = line.split_once(" noticed that process rank ") {
        let how = rest.split_once(" exited on ").map(|(_, how)| how.trim_end_matches('.').to_owned());
        return Some(FailedRank { rank: number(rest)?, how });
    }
    if let Some(name) = line.strip_prefix("Process name:") {
        return Some(FailedRank { rank: number(name.trim().rsplit_once(',')?.1)?, how: None });
    }
    if let Some((_, rest)) = line.split_once("MPI_ABORT was invoked on rank ") {
        return Some(FailedRank { rank: number(rest)?, how: Some("MPI_Abort".to_owned()) });
    }
    if let Some(rest) = line.strip_prefix("srun: error: ") {
        // `HOST: task 3: Killed`, `HOST: tasks 0-1: Exited with exit code 7`
        let (tasks, how) =
            rest.split_once(": task")?.1.trim_start_matches('s').trim_start().split_once(": ")?;
        // Slurm ends the other ranks this way.
        return if how == "Terminated" {
            None
        } else {
            Some(FailedRank { rank: number(tasks)?, how: Some(how.to_owned()) })
        };
    }
    let (rank, message) = line.strip_prefix("rank ")?.split_once(": error: ")?;
    Some(FailedRank { rank: rank.parse().ok()?, how: Some(message.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<(usize, Option<String>)> {
        let mut scanner = Scanner::default();
        for piece in text.as_bytes().chunks(7) {
            scanner.look(piece);
        }
        scanner.found().map(|failed| (failed.rank, failed.how))
    }

    #[test]
    fn messages_of_both_open_mpis_are_understood() {
        let killed =
            "--\nmpirun noticed that process rank 11 with PID 0 on node vm exited on signal 9 (Killed).\n--";
        assert_eq!(found(killed), Some((11, Some("signal 9 (Killed)".into()))));
        let exited =
            "The first process to do so was:\n\n  Process name: [[23759,1],3]\n  Exit code:    7\n---\n";
        assert_eq!(found(exited), Some((3, Some("exit code 7".into()))));
        let five = "   Process name: [prterun-n1-8@1,12]\n   Exit code:    3";
        assert_eq!(found(five), Some((12, Some("exit code 3".into()))));
        let abort = "MPI_ABORT was invoked on rank 2 in communicator MPI_COMM_WORLD";
        assert_eq!(found(abort), Some((2, Some("MPI_Abort".into()))));
    }

    #[test]
    fn messages_of_slurm_are_understood() {
        let ended =
            "srun: error: n1: tasks 0-1: Terminated\nsrun: error: n2: task 3: Exited with exit code 7\n";
        assert_eq!(found(ended), Some((3, Some("Exited with exit code 7".into()))));
        assert_eq!(found("srun: error: n2: tasks 2-3: Killed\n"), Some((2, Some("Killed".into()))));
        assert_eq!(found("srun: error: Unable to create step for job 7: Job/step already completing"), None);
    }

    #[test]
    fn a_message_names_its_rank() {
        assert_eq!(rank_of_message("rank 3: no space left"), Some(3));
        assert_eq!(rank_of_message("rank 12 died after step 5"), Some(12));
        for other in ["ranks 1 and 2 differ", "rank", "rank x: y", "the rank 3: z"] {
            assert_eq!(rank_of_message(other), None, "{other}");
        }
    }

    #[test]
    fn the_first_to_speak_counts() {
        let text = "rank 1: error: no space left\nmpirun noticed that process rank 0 with PID 0 on node vm exited on signal 9.\n";
        assert_eq!(found(text), Some((1, Some("no space left".into()))));
    }

    #[test]
    fn ordinary_lines_say_nothing() {
        assert_eq!(found("epoch 1/5  step 1/125\rrank 3 of 4 is up\nprocess rank\n[a,1]\n"), None);
        assert_eq!(found(&"x".repeat(100_000)), None);
    }
}
