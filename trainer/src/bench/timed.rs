//! A process group that measures the time of this rank in collectives, and that can skip communication.

use collectives::{CollectiveError, Pending, ProcessGroup, ReduceOp};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tch::Tensor;

/// Forwards every call, and adds up the time that the calling thread spends in calls and in waiting for them: exposed
/// communication.
pub(crate) struct Timed {
    inner: Rc<dyn ProcessGroup>,
    meter: Meter,
}

/// Shared state of a [`Timed`] group; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Meter {
    inside: Rc<Cell<Duration>>,
    calls: Rc<Cell<u64>>,
    silent: Rc<Cell<bool>>,
}

impl Meter {
    /// Time inside the group since the last call of this, and collectives made.
    pub(crate) fn take(&self) -> (Duration, u64) {
        (self.inside.take(), self.calls.take())
    }

    /// Whether calls send nothing and leave the tensors unchanged: the same step without any communication.
    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.set(silent);
    }

    fn count(&self) {
        self.calls.set(self.calls.get() + 1);
    }

    fn measure<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.inside.set(self.inside.get() + start.elapsed());
        result
    }
}

impl Timed {
    /// Wraps `inner`.
    pub(crate) fn new(inner: Rc<dyn ProcessGroup>) -> (Self, Meter) {
        let meter = Meter::default();
        (Self { inner, meter: meter.clone() }, meter)
    }

    fn run(&self, work: impl FnOnce() -> Result<(), CollectiveError>) -> Result<(), CollectiveError> {
        if self.meter.silent.get() {
            return Ok(());
        }
        self.meter.count();
        self.meter.measure(work)
    }

    fn start(
        &self,
        work: impl FnOnce() -> Result<Pending, CollectiveError>,
    ) -> Result<Pending, CollectiveError> {
        if self.meter.silent.get() {
            return Ok(Pending::done());
        }
        self.meter.count();
        let pending = self.meter.measure(work)?;
        let meter = self.meter.clone();
        Ok(Pending::new(move || meter.measure(|| pending.wait())))
    }
}

impl ProcessGroup for Timed {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn backend(&self) -> &'static str {
        self.inner.backend()
    }

    fn all_reduce(&self, tensor: &mut Tensor, op: ReduceOp) -> Result<(), CollectiveError> {
        self.run(|| self.inner.all_reduce(tensor, op))
    }

    fn start_all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Pending, CollectiveError> {
        self.start(|| self.inner.start_all_reduce(tensor, op))
    }

    fn start_all_gather(&self, input: &Tensor, output: &Tensor) -> Result<Pending, CollectiveError> {
        self.start(|| self.inner.start_all_gather(input, output))
    }

    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), CollectiveError> {
        self.run(|| self.inner.broadcast(tensor, root))
    }

    fn all_gather(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        self.run(|| self.inner.all_gather(input, output))
    }

    fn reduce_scatter(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        self.run(|| self.inner.reduce_scatter(input, output))
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        self.run(|| self.inner.barrier())
    }

    fn barrier_within(&self, timeout: Duration) -> Result<(), CollectiveError> {
        self.run(|| self.inner.barrier_within(timeout))
    }

    /// Subgroups are not measured.
    fn split(&self, color: usize, key: usize) -> Result<Box<dyn ProcessGroup>, CollectiveError> {
        self.inner.split(color, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use collectives::Solo;

    #[test]
    fn time_inside_and_time_waiting_add_up_and_a_silent_group_does_nothing() {
        let (group, meter) = Timed::new(Rc::new(Solo));
        let whole = Tensor::from_slice(&[1.0_f32, 2.0]);
        let mut part = Tensor::zeros([2], tch::kind::FLOAT_CPU);
        group.reduce_scatter(&whole, &mut part).unwrap();
        group.start_all_reduce(&whole, ReduceOp::Sum).unwrap().wait().unwrap();
        assert_eq!(part, whole);
        let (inside, calls) = meter.take();
        assert!(inside > Duration::ZERO && calls == 2);
        meter.set_silent(true);
        group.all_gather(&(&whole * 2.0), &mut part).unwrap();
        assert_eq!((part, meter.take()), (whole, (Duration::ZERO, 0)));
    }
}
