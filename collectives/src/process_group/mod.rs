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

/// Ranks that exchange tensors. All ranks make the same calls in the same order.
///
/// Tensors are contiguous, of kind float, double, int64, bfloat16 or (where nothing is added up) uint8, and of the
/// same shape on every rank. A call returns when its result may be used by the next operation on the tensor's device.
///
/// Sums of bfloat16 over MPI are accumulated in float and rounded once. NCCL rounds at every rank that a sum
/// passes on its way.
pub trait ProcessGroup {
    /// This process's number, `0..size`.
    fn rank(&self) -> usize;
    /// Number of processes.
    fn size(&self) -> usize;
    /// Name for people: `solo`, `mpi`, `nccl`.
    fn backend(&self) -> &'static str;
    /// Combines `tensor` over all ranks; every rank gets the result in place.
    fn all_reduce(&self, tensor: &mut Tensor, op: ReduceOp) -> Result<(), CollectiveError>;
    /// Starts [`all_reduce`](Self::all_reduce) beside what this rank computes. Started collectives run in the order
    /// in which they were started, which has to be the same on all ranks.
    fn start_all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Pending, CollectiveError>;
    /// Starts [`all_gather`](Self::all_gather), likewise.
    fn start_all_gather(&self, input: &Tensor, output: &Tensor) -> Result<Pending, CollectiveError>;
    /// Copies rank `root`'s `tensor` to all ranks, in place.
    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), CollectiveError>;
    /// Lays `input` (n elements) of every rank one behind the other in `output` (size x n elements).
    fn all_gather(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError>;
    /// Sums `input` (size x n elements) over the ranks and leaves this rank's n elements in `output`.
    fn reduce_scatter(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError>;
    /// Returns when every rank has called it.
    fn barrier(&self) -> Result<(), CollectiveError>;
    /// Returns when every rank has called it, or with an error that names rank and step when `timeout` is
    /// over. After such an error the group is of no use any more.
    fn barrier_within(&self, timeout: Duration) -> Result<(), CollectiveError>;
    /// The ranks that give the same `color`, ordered by `key` and then by rank, as a group of their own.
    /// All ranks of this group call it.
    fn split(&self, color: usize, key: usize) -> Result<Box<dyn ProcessGroup>, CollectiveError>;
    /// An error if a call that had returned has failed since, which can happen where results arrive on a
    /// device later. Every call asks this too.
    fn check(&self) -> Result<(), CollectiveError> {
        Ok(())
    }
}

/// Bytes that each of `size` ranks sends for one collective by the ring algorithms, the best that can be done: of an
/// all-reduce every byte goes out twice, of a gather or scatter once, but for the rank's own part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Of a tensor of so many bytes, the same size on every rank.
    AllReduce(usize),
    /// Of a whole of so many bytes.
    GatherOrScatter(usize),
    /// Of a tensor of so many bytes.
    Broadcast(usize),
}

impl Traffic {
    /// The bytes, for a world of `size` ranks.
    pub fn bytes(self, size: usize) -> u64 {
        let others = |whole: usize| (whole as u64) * (size as u64 - 1) / size as u64;
        match self {
            Self::AllReduce(whole) => 2 * others(whole),
            Self::GatherOrScatter(whole) | Self::Broadcast(whole) => others(whole),
        }
    }
}
