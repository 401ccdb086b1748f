//! Detects processes that a signal has stopped; the other ranks would wait for them forever.

use super::processes::{self, StoppedProcess};
use super::signals;
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Polling interval.
const LOOK: Duration = Duration::from_secs(1);
/// Measures how long processes have been stopped. It counts polls instead of seconds, so that a suspended machine, or a
/// launcher that was stopped together with its ranks, does not count.
#[derive(Debug)]
pub struct StoppedClock {
    /// Number of polls in a row that may find a process stopped.
    most: u32,
    looked: Instant,
    continued: u32,
    seen: HashMap<Pid, u32>,
}

impl StoppedClock {
    /// Starts now; `seconds` is how long a process may be stopped.
    pub fn new(seconds: u32) -> Self {
        // The number of intervals between the first poll and the last.
        Self {
            most: seconds.saturating_add(1),
            looked: Instant::now(),
            continued: signals::continued(),
            seen: HashMap::new(),
        }
    }

    /// Checks all descendants if a poll is due, and returns the process that has been stopped for too long. A rank
    /// comes before another process, because the user knows ranks.
    pub fn look(&mut self) -> Option<StoppedProcess> {
        if self.looked.elapsed() < LOOK {
            return None;
        }
        self.looked = Instant::now();
        self.count(processes::stopped(), signals::continued())
    }

    fn count(&mut self, stopped: Vec<StoppedProcess>, continued: u32) -> Option<StoppedProcess> {
        if continued != self.continued {
            // The user stopped the whole job and now resumes it, one process after the other.
            self.continued = continued;
            self.seen.clear();
        }
        let seen = |pid| self.seen.get(&pid).copied().unwrap_or(0) + 1;
        self.seen = stopped.iter().map(|process| (process.pid, seen(process.pid))).collect();
        let mut long: Vec<StoppedProcess> =
            stopped.into_iter().filter(|process| self.seen[&process.pid] >= self.most).collect();
        long.sort_by_key(|process| (process.rank.is_none(), process.rank));
        long.into_iter().next()
    }
}

impl fmt::Display for StoppedProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, program, .. } = self;
        write!(f, "a signal stopped {program} (process {pid}) for longer than --stopped-seconds allows")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(pid: i32, rank: Option<usize>) -> StoppedProcess {
        StoppedProcess { pid: Pid::from_raw(pid), rank, program: "program".into() }
    }

    fn after(
        looks: u32,
        watch: &mut StoppedClock,
        what: &[StoppedProcess],
        continued: u32,
    ) -> Option<StoppedProcess> {
        (0..looks).find_map(|_| watch.count(what.to_vec(), continued))
    }

    fn watch() -> StoppedClock {
        StoppedClock { continued: 0, ..StoppedClock::new(10) }
    }

    #[test]
    fn what_is_stopped_for_long_is_found_ranks_first() {
        let list = [stopped(7, None), stopped(9, Some(3)), stopped(8, Some(1))];
        let mut watch = watch();
        assert_eq!(after(10, &mut watch, &list, 0), None);
        assert_eq!(after(1, &mut watch, &list, 0), Some(stopped(8, Some(1))));
    }

    #[test]
    fn what_goes_on_in_between_is_counted_anew() {
        let mut watch = watch();
        let list = [stopped(7, None)];
        assert_eq!(after(10, &mut watch, &list, 0), None);
        assert_eq!(after(1, &mut watch, &[], 0), None);
        assert_eq!(after(10, &mut watch, &list, 0), None);
    }

    #[test]
    fn a_launcher_that_was_stopped_as_well_counts_anew() {
        let mut watch = watch();
        let list = [stopped(7, None)];
        assert_eq!(after(10, &mut watch, &list, 0), None);
        assert_eq!(after(10, &mut watch, &list, 1), None);
        assert_eq!(after(1, &mut watch, &list, 1), Some(stopped(7, None)));
    }
}
