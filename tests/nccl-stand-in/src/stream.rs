//! Streams as threads that work off a queue, events as marks in them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};

type Job = Box<dyn FnOnce() + Send>;

/// A queue that one thread works off, in order. The thread ends when the queue is dropped and empty.
pub(crate) struct StandInStream(mpsc::Sender<Job>);

impl StandInStream {
    pub(crate) fn new() -> Self {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        Self(sender)
    }

    /// The one that a null handle means.
    pub(crate) fn default_stream() -> &'static Self {
        static DEFAULT: OnceLock<StandInStream> = OnceLock::new();
        DEFAULT.get_or_init(Self::new)
    }

    pub(crate) fn push(&self, job: impl FnOnce() + Send + 'static) {
        // The receiver lives as long as the sender: the thread ends only after it.
        let _ = self.0.send(Box::new(job));
    }

    /// Waits until all that was put in so far is done.
    pub(crate) fn synchronize(&self) {
        let mark = StandInEvent::default();
        mark.record(self);
        mark.wait(mark.recorded());
    }
}

/// How often a mark was set, and how often reached. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct StandInEvent(Arc<(Mutex<Marks>, Condvar)>);

#[derive(Default)]
struct Marks {
    recorded: u64,
    reached: u64,
}

impl StandInEvent {
    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record(&self, stream: &StandInStream) {
        let mut marks = self.marks();
        marks.recorded += 1;
        let (event, number) = (self.clone(), marks.recorded);
        stream.push(move || {
            let mut marks = event.marks();
            marks.reached = marks.reached.max(number);
            event.0.1.notify_all();
        });
    }

    pub(crate) fn recorded(&self) -> u64 {
        self.marks().recorded
    }

    pub(crate) fn is_done(&self) -> bool {
        let marks = self.marks();
        marks.reached >= marks.recorded
    }

    /// Waits until mark `number` is reached.
    pub(crate) fn wait(&self, number: u64) {
        let waiting = self.0.1.wait_while(self.marks(), |marks| marks.reached < number);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }

    /// What is put into `stream` from here on runs after the present mark.
    pub(crate) fn hold(&self, stream: &StandInStream) {
        let (event, number) = (self.clone(), self.recorded());
        stream.push(move || event.wait(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn streams_run_in_order_and_wait_for_events_of_others() {
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
        event.hold(&second);
        second.push(move || sender.send(2).unwrap());
        second.synchronize();
        assert_eq!(received.iter().collect::<Vec<_>>(), [1, 2]);
    }
}
