//! A thread that makes collective calls while the main thread computes.
//!
//! MPI makes progress only inside its calls, so a collective that overlaps with computation needs a thread that stays
//! inside the call. The thread uses a separate communicator and makes the calls in the order in which they are started.

use super::Pending;
use crate::activity::Activity;
use crate::error::CollectiveError;
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError, channel};
use std::thread::{JoinHandle, yield_now};
use std::time::{Duration, Instant};

/// How long a thread asks for a message before it sleeps: the reduction of a small bucket is often done by then, and the kernel
/// need not wake the thread.
const SPIN: Duration = Duration::from_micros(50);

type ProgressWork = Box<dyn FnOnce() -> Result<(), CollectiveError> + Send>;

struct ProgressJob {
    work: ProgressWork,
    done: Sender<Result<(), CollectiveError>>,
}

/// A running progress thread; dropping this value ends it.
pub(super) struct ProgressThread {
    jobs: Option<Sender<ProgressJob>>,
    thread: Option<JoinHandle<()>>,
    rank: usize,
    activity: Activity,
}

impl ProgressThread {
    /// Starts the thread. Waiting for its results is recorded in `activity`.
    pub(super) fn start(rank: usize, activity: Activity) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new().name("collectives".to_owned()).spawn(move || run(&queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), rank, activity })
    }

    /// Queues `work`; `operation` is the activity of the main thread while it waits for the result.
    pub(super) fn submit(&self, operation: &'static str, work: ProgressWork) -> Pending {
        let (done, result) = channel();
        let rank = self.rank;
        let thread_ended = move || CollectiveError::Thread { rank, operation };
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(ProgressJob { work, done }).is_ok());
        let activity = self.activity.clone();
        Pending::new(move || {
            let _entered = activity.enter_collective(operation);
            if sent { receive(&result).unwrap_or_else(|_| Err(thread_ended())) } else { Err(thread_ended()) }
        })
    }
}

fn run(queue: &Receiver<ProgressJob>) {
    while let Ok(ProgressJob { work, done }) = receive(queue) {
        // After a failure, the receiver may no longer exist.
        let _ = done.send(work());
    }
}

/// The next message. Between its questions the thread offers its core to others, which may compute.
fn receive<T>(from: &Receiver<T>) -> Result<T, RecvError> {
    let start = Instant::now();
    while start.elapsed() < SPIN {
        match from.try_recv() {
            Ok(message) => return Ok(message),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) => yield_now(),
        }
    }
    from.recv()
}

impl Drop for ProgressThread {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // The work returns errors instead of panicking, and the panic hook has already printed a panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::{sleep, spawn};

    #[test]
    fn messages_arrive_at_once_and_after_the_spin() {
        for delay in [Duration::ZERO, SPIN / 2, SPIN * 100] {
            let (sender, receiver) = channel();
            let thread = spawn(move || {
                sleep(delay);
                sender.send(7).expect("the receiver waits");
            });
            assert_eq!(receive(&receiver), Ok(7));
            thread.join().expect("it does not panic");
            assert_eq!(receive(&receiver), Err(RecvError));
        }
    }
}
