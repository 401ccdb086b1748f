//! A limit for what nobody watches: the ranks watch each other only from when all are up until they part.

use launcher::protocol::{Outcome, environment};
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

/// Seconds that the start of all ranks and their parting may take, if [`environment::START_SECONDS`] says nothing.
const START_SECONDS: u64 = 600;

/// While this lives, time runs; when it is over, the process ends, which frees the ranks that wait for it.
#[derive(Debug)]
pub struct Deadline {
    _done: Sender<()>,
}

impl Deadline {
    /// Lets time run for something that `rank` waits for.
    pub fn start(what: &'static str, rank: usize, limit: Duration) -> io::Result<Self> {
        let (done, over) = channel();
        Builder::new().name("deadline".into()).spawn(move || {
            if over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let seconds = limit.as_secs_f64();
                eprintln!(
                    "error: rank {rank}: {what} took longer than {seconds} s: some rank did not come up, is stopped or cannot be reached; look at its host, or allow more time with {}",
                    environment::START_SECONDS
                );
                // SAFETY: ends the process at once, as it must be: the main thread may wait for ever.
                unsafe { nix::libc::_exit(i32::from(Outcome::FAILED)) }
            }
        })?;
        Ok(Self { _done: done })
    }
}

/// How long the start of all ranks, and their parting, may take.
pub fn start_limit() -> Duration {
    let seconds = std::env::var(environment::START_SECONDS).ok().and_then(|text| text.trim().parse().ok());
    Duration::from_secs(seconds.filter(|seconds| *seconds > 0).unwrap_or(START_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_in_time_ends_nothing() {
        let deadline = Deadline::start("a test", 0, Duration::from_millis(20)).unwrap();
        drop(deadline);
        std::thread::sleep(Duration::from_millis(60));
    }
}
