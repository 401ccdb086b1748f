//! A thread that makes collective calls beside the main thread's work.
//!
//! MPI makes progress only inside its calls: a collective that is to run while this rank computes needs a thread
//! that stays inside. Its calls go over a communicator of their own, in the order in which they were started.

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

/// The thread, as long as this lives.
pub(super) struct ProgressThread {
    jobs: Option<Sender<ProgressJob>>,
    thread: Option<JoinHandle<()>>,
    rank: usize,
    activity: Activity,
}

impl ProgressThread {
    /// Starts the thread; waiting is told to `activity`.
    pub(super) fn start(rank: usize, activity: Activity) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new().name("collectives".to_owned()).spawn(move || run(&queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), rank, activity })
    }

    /// Queues `work`; `operation` is what the main thread does while it waits for it.
    pub(super) fn submit(&self, operation: &'static str, work: ProgressWork) -> Pending {
        let (done, result) = channel();
        let rank = self.rank;
        let gone = move || CollectiveError::Thread { rank, operation };
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(ProgressJob { work, done }).is_ok());
        let activity = self.activity.clone();
        Pending::new(move || {
            let _entered = activity.enter_collective(operation);
            if sent { result.recv().unwrap_or_else(|_| Err(gone())) } else { Err(gone()) }
        })
    }
}

fn run(queue: &Receiver<ProgressJob>) {
    while let Ok(ProgressJob { work, done }) = queue.recv() {
        // Nobody may be waiting any more, where the run has failed.
        let _ = done.send(work());
    }
}

impl Drop for ProgressThread {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // Its work returns errors instead of panicking; a panic was printed by the hook.
            let _ = thread.join();
        }
    }
}
