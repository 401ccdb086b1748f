//! The tensor plane: collectives in place on contiguous tensors.

mod mpi;
mod nccl;
mod solo;
mod tensors;

pub use self::mpi::MpiGroup;
pub use nccl::{Callback, NcclGroup, NcclOptions};
pub use solo::Solo;

use crate::error::CollectiveError;
use std::time::Duration;
use tch::Tensor;

/// How the values of the ranks are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReduceOp {
    /// Sum over ranks.
    Sum,
    /// Greatest value of any rank.
    Max,
    /// Least value of any rank.
    Min,
}

/// Ranks that exchange tensors. All ranks make the same calls in the same order.
///
/// Tensors are contiguous, of kind float, double, int64 or bfloat16, and of the same shape on every rank. A
/// call returns when its result may be used by the next operation on the tensor's device.
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
    /// Copies rank `root`'s `tensor` to all ranks, in place.
    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), CollectiveError>;
    /// Lays `input` (n elements) of every rank one behind the other in `output` (size x n elements).
    fn all_gather(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError>;
    /// Sums `input` (size x n elements) over the ranks and leaves this rank's n elements in `output`.
    fn reduce_scatter(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError>;
    /// Returns when every rank has called it.
    fn barrier(&self) -> Result<(), CollectiveError>;
    /// Returns when every rank has called it, or with an error that names rank and step when `patience` is
    /// over. After such an error the group is of no use any more.
    fn barrier_within(&self, patience: Duration) -> Result<(), CollectiveError>;
    /// The ranks that give the same `color`, ordered by `key` and then by rank, as a group of their own.
    /// All ranks of this group call it.
    fn split(&self, color: usize, key: usize) -> Result<Box<dyn ProcessGroup>, CollectiveError>;
    /// An error if a call that had returned has failed since, which can happen where results arrive on a
    /// device later. Every call asks this too.
    fn check(&self) -> Result<(), CollectiveError> {
        Ok(())
    }
}
