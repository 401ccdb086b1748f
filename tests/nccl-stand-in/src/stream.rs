//! Streams as threads with a queue; events as records in the queue.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};

type Job = Box<dyn FnOnce() + Send>;

/// A queue of jobs that one thread runs in order. The thread ends when the queue is dropped and empty.
pub(crate) struct StandInStream(mpsc::Sender<Job>);

impl StandInStream {
    pub(crate) fn new() -> Self {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        Self(sender)
    }

    /// The stream of a null handle.
    pub(crate) fn default_stream() -> &'static Self {
        static DEFAULT: OnceLock<StandInStream> = OnceLock::new();
        DEFAULT.get_or_init(Self::new)
    }

    pub(crate) fn push(&self, job: impl FnOnce() + Send + 'static) {
        // Cannot fail: the thread with the receiver ends after the sender.
        let _ = self.0.send(Box::new(job));
    }

    /// Waits until all queued jobs are done.
    pub(crate) fn synchronize(&self) {
        let event = StandInEvent::default();
        event.record(self);
        event.wait(event.recorded());
    }
}

/// Counts how often the event was recorded and reached. Clones share the counters.
#[derive(Clone, Default)]
pub(crate) struct StandInEvent(Arc<(Mutex<EventCounters>, Condvar)>);

#[derive(Default)]
struct EventCounters {
    recorded: u64,
    reached: u64,
}

impl StandInEvent {
    fn counters(&self) -> MutexGuard<'_, EventCounters> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record(&self, stream: &StandInStream) {
        let mut counters = self.counters();
        counters.recorded += 1;
        let (event, number) = (self.clone(), counters.recorded);
        stream.push(move || {
            let mut counters = event.counters();
            counters.reached = counters.reached.max(number);
            event.0.1.notify_all();
        });
    }

    pub(crate) fn recorded(&self) -> u64 {
        self.counters().recorded
    }

    pub(crate) fn is_done(&self) -> bool {
        let counters = self.counters();
        counters.reached >= counters.recorded
    }

    /// Waits until record `number` is reached.
    pub(crate) fn wait(&self, number: u64) {
        let waiting = self.0.1.wait_while(self.counters(), |counters| counters.reached < number);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }

    /// Makes later jobs of `stream` wait for the current record.
    pub(crate) fn make_wait(&self, stream: &StandInStream) {
        let (event, number) = (self.clone(), self.recorded());
        stream.push(move || event.wait(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn streams_run_in_order_and_wait_for_events_of_other_streams() {
        let (first, second) = (StandInStream::new(), StandInStream::new());
        let (sender, received) = mpsc::channel();
        let event = StandInEvent::default();
        assert!(event.is_done());
        let slow = sender.clone();
        first.push(move || {
            std::thread::sleep(Duration::from_millis(30));
            slow.send(1).unwrap();
        });
        event.record(&first);
        assert!(!event.is_done());
        event.make_wait(&second);
        second.push(move || sender.send(2).unwrap());
        second.synchronize();
        assert_eq!(received.iter().collect::<Vec<_>>(), [1, 2]);
    }
}
