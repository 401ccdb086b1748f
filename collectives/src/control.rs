//! The control plane: agreements and small objects, on a separate communicator from the tensors.

use crate::error::CollectiveError;
use crate::raw::{Element, MpiComm};
use crate::reduce_op::ReduceOp;

/// Small messages among all ranks, on a separate communicator.
pub struct Control {
    comm: MpiComm,
}

impl Control {
    pub(crate) fn new(comm: MpiComm) -> Self {
        Self { comm }
    }

    /// Rank of this process.
    pub fn rank(&self) -> usize {
        self.comm.rank
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.comm.size
    }

    /// Broadcasts the bytes of rank `root`.
    pub fn broadcast(&self, bytes: Vec<u8>, root: usize) -> Result<Vec<u8>, CollectiveError> {
        let mut length = bytes.len() as i64;
        // SAFETY: one element, owned here.
        unsafe { self.comm.broadcast((&raw mut length).cast(), 1, Element::I64, root)? };
        let mut bytes = bytes;
        bytes.resize(length as usize, 0);
        // SAFETY: the vector was just given `length` bytes.
        unsafe { self.comm.broadcast(bytes.as_mut_ptr(), bytes.len(), Element::U8, root)? };
        Ok(bytes)
    }

    /// Gathers the bytes of every rank, in rank order, on all ranks.
    pub fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.comm.all_gather_bytes(bytes)
    }

    /// All-reduces integers in place; the result is exact for any world size.
    pub fn all_reduce(&self, values: &mut [i64], op: ReduceOp) -> Result<(), CollectiveError> {
        // SAFETY: a slice of as many elements, borrowed mutably for the call.
        unsafe { self.comm.all_reduce(values.as_mut_ptr().cast(), values.len(), Element::I64, op) }
    }

    /// Turns a failure on any rank into a failure on all ranks.
    ///
    /// `problem` is the problem of this rank, if any. Every rank receives the lowest rank with a problem and its text:
    /// either all ranks continue, or all stop for the same reason.
    pub fn agree(&self, problem: Option<&str>) -> Result<Option<(usize, String)>, CollectiveError> {
        let mut failing = [if problem.is_some() { self.rank() as i64 } else { self.size() as i64 }];
        self.all_reduce(&mut failing, ReduceOp::Min)?;
        let first = failing[0] as usize;
        if first == self.size() {
            return Ok(None);
        }
        let text = self.broadcast(problem.unwrap_or_default().as_bytes().to_vec(), first)?;
        Ok(Some((first, String::from_utf8_lossy(&text).into_owned())))
    }

    /// Waits until every rank has called it.
    pub fn barrier(&self) -> Result<(), CollectiveError> {
        self.comm.barrier()
    }

    /// Aborts every rank of the job. Does not return.
    pub fn abort(&self, code: i32) -> ! {
        self.comm.abort(code)
    }
}
