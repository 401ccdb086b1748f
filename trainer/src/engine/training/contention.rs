//! Detects other programs that use the cores of this rank.
//!
//! The kernel counts the time in which a thread was ready to run and had no core. If that is a large share, the run is
//! slower than the machine allows, and no other figure shows the reason.

use std::fs;
use std::time::{Duration, Instant};

/// Length of the measurement.
const PERIOD: Duration = Duration::from_secs(10);
/// Largest share of its time that a thread may wait for a core without a warning.
const SHARE: f64 = 0.25;

/// Nanoseconds for which a thread ran and for which it waited for a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CoreTime {
    ran: u64,
    waited: u64,
}

/// Watches the compute thread until it has reported contention.
#[derive(Debug)]
pub struct Contention {
    since: Instant,
    before: Option<CoreTime>,
}

impl Contention {
    /// Starts the measurement.
    pub fn start() -> Self {
        Self { since: Instant::now(), before: counted() }
    }

    /// Warns once per run if the cores are not free. The compute thread calls this after each step.
    pub fn report(&mut self, threads: usize) -> Option<String> {
        if self.before.is_none() || self.since.elapsed() < PERIOD {
            return None;
        }
        self.since = Instant::now();
        let share = self.share_until(counted()?)?;
        Some(format!(
            "the cores of this rank are not free: it waited {:.0} % of the last {} s for one ({threads} threads per rank; 1-minute load {}). Other programs, or more ranks than cores, slow the run down",
            100.0 * share,
            PERIOD.as_secs(),
            load()
        ))
    }

    /// The share of its time that the thread waited, if it exceeds the limit. The watch ends with that.
    fn share_until(&mut self, now: CoreTime) -> Option<f64> {
        let share = waiting_share(self.before?, now);
        let too_much = share > SHARE;
        self.before = (!too_much).then_some(now);
        too_much.then_some(share)
    }
}

fn waiting_share(before: CoreTime, now: CoreTime) -> f64 {
    let (ran, waited) = (now.ran.saturating_sub(before.ran), now.waited.saturating_sub(before.waited));
    if ran + waited == 0 { 0.0 } else { waited as f64 / (ran + waited) as f64 }
}

/// None if the kernel does not count it.
fn counted() -> Option<CoreTime> {
    parse(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

fn parse(text: &str) -> Option<CoreTime> {
    let mut fields = text.split_whitespace().map(str::parse);
    Some(CoreTime { ran: fields.next()?.ok()?, waited: fields.next()?.ok()? })
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_the_time_in_which_the_thread_wanted_to_run() {
        let before = parse("1000 500 3\n").unwrap();
        assert_eq!(before, CoreTime { ran: 1000, waited: 500 });
        assert_eq!(waiting_share(before, CoreTime { ran: 4000, waited: 1500 }), 0.25);
        assert_eq!(waiting_share(before, before), 0.0);
        assert_eq!(parse("1000"), None);
    }

    #[test]
    fn it_is_reported_once_and_by_the_time_since_the_last_look() {
        let at = |ran, waited| CoreTime { ran, waited };
        let mut contention = Contention { since: Instant::now(), before: Some(at(0, 0)) };
        assert_eq!(contention.share_until(at(900, 100)), None);
        assert_eq!(contention.share_until(at(1000, 400)), Some(0.75));
        assert_eq!(contention.share_until(at(1000, 9000)), None);
    }
}
