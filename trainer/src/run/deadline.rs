//! Time limits for startup and shutdown, when the liveness watch of the ranks is not active.

use super::say;
use protocol::{Outcome, environment};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

/// Default limit in seconds for the start and the shutdown of all ranks, without [`environment::START_SECONDS`].
const START_SECONDS: u64 = 600;

/// A running time limit. When it expires, the process ends, which frees the ranks that wait for it. Dropping the value
/// cancels it.
#[derive(Debug)]
pub struct Deadline {
    _done: Sender<()>,
}

impl Deadline {
    /// Starts a time limit for an operation that `rank` waits for. If its thread cannot be started, the operation runs
    /// without a limit.
    pub fn start(what: &'static str, rank: usize, limit: Duration) -> Option<Self> {
        let (done, over) = channel();
        let started = Builder::new().name("deadline".into()).spawn(move || {
            if over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let seconds = limit.as_secs_f64();
                say(format_args!(
                    "error: rank {rank}: {what} took longer than {seconds} s: a rank did not start, is stopped or cannot be reached\nhint: check its host, or allow more time with {}",
                    environment::START_SECONDS
                ));
                // SAFETY: ends the process at once, which is required because the main thread may wait forever.
                unsafe { nix::libc::_exit(i32::from(Outcome::FAILED)) }
            }
        });
        started.map_err(|error| tracing::warn!("no limit for {what}: {error}")).ok()?;
        Some(Self { _done: done })
    }
}

/// Time limit for the start and the shutdown of all ranks.
pub fn start_limit() -> Result<Duration, String> {
    limit_of(std::env::var(environment::START_SECONDS).ok().as_deref())
}

fn limit_of(text: Option<&str>) -> Result<Duration, String> {
    let Some(text) = text else { return Ok(Duration::from_secs(START_SECONDS)) };
    let seconds = text.trim().parse().ok().filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| {
        format!("{} is `{text}`; expected a whole number of seconds, 1 or more", environment::START_SECONDS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_of_seconds() {
        assert_eq!(limit_of(None), Ok(Duration::from_secs(START_SECONDS)));
        assert_eq!(limit_of(Some(" 90 ")), Ok(Duration::from_secs(90)));
        for wrong in ["", "0", "-1", "ten", "1.5"] {
            let told = limit_of(Some(wrong)).unwrap_err();
            assert_eq!(
                told,
                format!("LIFT_START_SECONDS is `{wrong}`; expected a whole number of seconds, 1 or more")
            );
        }
    }

    #[test]
    fn what_is_done_in_time_ends_nothing() {
        let deadline = Deadline::start("a test", 0, Duration::from_millis(20)).unwrap();
        drop(deadline);
        std::thread::sleep(Duration::from_millis(60));
    }
}
