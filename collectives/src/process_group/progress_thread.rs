//! A thread that makes collective calls while the main thread computes.
//!
//! MPI makes progress only inside its calls, so a collective that overlaps with computation needs a thread that stays
//! inside the call. The thread uses a separate communicator and makes the calls in the order in which they are started.

use super::Pending;
use crate::activity::Activity;
use crate::error::CollectiveError;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

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
            if sent { result.recv().unwrap_or_else(|_| Err(thread_ended())) } else { Err(thread_ended()) }
        })
    }
}

fn run(queue: &Receiver<ProgressJob>) {
    while let Ok(ProgressJob { work, done }) = queue.recv() {
        // After a failure, the receiver may no longer exist.
        let _ = done.send(work());
    }
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
