//! The tensor plane: collectives in place on contiguous tensors.

mod mpi;
mod nccl;
mod pending;
mod progress_thread;
mod solo;
mod tensors;

pub use self::mpi::MpiGroup;
pub use nccl::{FailureCallback, NcclGroup, NcclOptions};
pub use pending::Pending;
pub use solo::Solo;

use crate::error::CollectiveError;
use crate::reduce_op::ReduceOp;
use std::time::Duration;
use tch::Tensor;

/// Ranks that exchange tensors. All ranks must make the same calls in the same order.
///
/// Tensors must be contiguous and have the same shape on every rank. The supported kinds are float, double, int64 and
/// bfloat16, and uint8 except for sums. A call returns when the next operation on the device of the tensor may use the
/// result.
///
/// MPI accumulates sums of bfloat16 in float and rounds once. NCCL rounds at each rank on the path of the sum.
pub trait ProcessGroup {
    /// Rank of this process in the group, `0..size`.
    fn rank(&self) -> usize;
    /// Number of ranks.
    fn size(&self) -> usize;
    /// Name of the backend for messages: `solo`, `mpi`, `nccl`.
    fn backend(&self) -> &'static str;
    /// Reduces `tensor` over all ranks in place; every rank receives the result.
    fn all_reduce(&self, tensor: &mut Tensor, op: ReduceOp) -> Result<(), CollectiveError>;
    /// Starts an asynchronous [`all_reduce`](Self::all_reduce). Asynchronous collectives run in the order in which they
    /// are started, which must be the same on all ranks.
    fn start_all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Pending, CollectiveError>;
    /// Starts an asynchronous [`all_gather`](Self::all_gather).
    fn start_all_gather(&self, input: &Tensor, output: &Tensor) -> Result<Pending, CollectiveError>;
    /// Broadcasts `tensor` of rank `root` to all ranks, in place.
    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), CollectiveError>;
    /// Concatenates `input` (n elements) of all ranks in `output` (size x n elements), in rank order.
    fn all_gather(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError>;
    /// Sums `input` (size x n elements) over the ranks, and writes the n elements of this rank into `output`.
    fn reduce_scatter(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError>;
    /// Waits until every rank has called it.
    fn barrier(&self) -> Result<(), CollectiveError>;
    /// Waits until every rank has called it, or returns an error with rank and step after `timeout`. After this error
    /// the group is unusable.
    fn barrier_within(&self, timeout: Duration) -> Result<(), CollectiveError>;
    /// Splits the group: ranks with the same `color` form a new group, ordered by `key` and then by rank. All ranks of
    /// this group must call it.
    fn split(&self, color: usize, key: usize) -> Result<Box<dyn ProcessGroup>, CollectiveError>;
    /// Returns an error if an earlier call has failed after it returned, as asynchronous calls on a device can. Every
    /// call checks this too.
    fn check(&self) -> Result<(), CollectiveError> {
        Ok(())
    }
}

/// Bytes that each rank sends for one collective with a ring algorithm, which is optimal: an all-reduce sends every
/// byte twice, a gather or scatter once, except for the rank's own part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// All-reduce of a tensor of this many bytes.
    AllReduce(usize),
    /// All-gather or reduce-scatter; the concatenated tensor has this many bytes.
    GatherOrScatter(usize),
    /// Broadcast of a tensor of this many bytes.
    Broadcast(usize),
}

impl Traffic {
    /// The bytes that one of `size` ranks sends.
    pub fn bytes(self, size: usize) -> u64 {
        let others = |whole: usize| (whole as u64) * (size as u64 - 1) / size as u64;
        match self {
            Self::AllReduce(whole) => 2 * others(whole),
            Self::GatherOrScatter(whole) | Self::Broadcast(whole) => others(whole),
        }
    }
}
