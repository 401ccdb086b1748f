//! The planted bug against law 4: a rank that skips one collective call. Only with the feature `faults`.

use collectives::{CollectiveError, Pending, ProcessGroup, ReduceOp};
use std::cell::Cell;
use std::time::Duration;
use tch::Tensor;

/// Environment variable with the rank and the number of the skipped call, counted from 1 over the process: `RANK:CALL`.
const LEAVE_OUT: &str = "LIFT_LEAVE_OUT";

/// The unchanged group, or, if the environment names this rank, one that skips a call.
///
/// # Panics
/// If the value is invalid: a test must not mistake a run without the bug for one that survived it.
pub(crate) fn planted(group: Box<dyn ProcessGroup>) -> Box<dyn ProcessGroup> {
    let Ok(text) = std::env::var(LEAVE_OUT) else { return group };
    let parsed = text.split_once(':').and_then(|(rank, call)| Some((rank.parse().ok()?, call.parse().ok()?)));
    let (rank, call): (usize, u64) =
        parsed.unwrap_or_else(|| panic!("{LEAVE_OUT} is `{text}`, expected RANK:CALL"));
    if group.rank() == rank { Box::new(Lacking { group, left: Cell::new(call) }) } else { group }
}

/// A group that makes every call of its rank except one.
struct Lacking {
    group: Box<dyn ProcessGroup>,
    /// Calls up to and including the skipped one; 0 after it.
    left: Cell<u64>,
}

impl Lacking {
    /// Whether this call is to be skipped.
    fn leaves_out(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left == 1
    }

    fn make<T>(
        &self,
        without: T,
        call: impl FnOnce() -> Result<T, CollectiveError>,
    ) -> Result<T, CollectiveError> {
        if self.leaves_out() { Ok(without) } else { call() }
    }
}

impl ProcessGroup for Lacking {
    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn size(&self) -> usize {
        self.group.size()
    }

    fn backend(&self) -> &'static str {
        self.group.backend()
    }

    fn all_reduce(&self, tensor: &mut Tensor, op: ReduceOp) -> Result<(), CollectiveError> {
        self.make((), || self.group.all_reduce(tensor, op))
    }

    fn start_all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Pending, CollectiveError> {
        self.make(Pending::done(), || self.group.start_all_reduce(tensor, op))
    }

    fn start_all_gather(&self, input: &Tensor, output: &Tensor) -> Result<Pending, CollectiveError> {
        self.make(Pending::done(), || self.group.start_all_gather(input, output))
    }

    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), CollectiveError> {
        self.make((), || self.group.broadcast(tensor, root))
    }

    fn all_gather(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        self.make((), || self.group.all_gather(input, output))
    }

    fn reduce_scatter(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        self.make((), || self.group.reduce_scatter(input, output))
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        self.make((), || self.group.barrier())
    }

    fn barrier_within(&self, timeout: Duration) -> Result<(), CollectiveError> {
        self.make((), || self.group.barrier_within(timeout))
    }

    fn split(&self, color: usize, key: usize) -> Result<Box<dyn ProcessGroup>, CollectiveError> {
        self.group.split(color, key)
    }

    fn check(&self) -> Result<(), CollectiveError> {
        self.group.check()
    }
}
