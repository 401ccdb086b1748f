//! Collectives over MPI, in place on the tensor's own memory.
//!
//! Tensors on a GPU pass through host memory, since MPI libraries rarely read device memory.

use super::tensors::Asked;
use super::{ProcessGroup, ReduceOp};
use crate::error::CollectiveError;
use crate::raw::{Comm, Element};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// The process group of ranks that MPI joins.
pub struct MpiGroup {
    comm: Comm,
}

impl MpiGroup {
    pub(crate) fn new(comm: Comm) -> Self {
        Self { comm }
    }

    fn asked(&self, operation: &'static str) -> Asked {
        Asked { rank: self.comm.world_rank, operation }
    }
}

/// Runs `work` on host memory: the tensor's own on CPU, a copy that is written back on a GPU.
fn on_host<T>(tensor: &mut Tensor, work: impl FnOnce(&mut Tensor) -> T) -> T {
    if tensor.device() == Device::Cpu {
        return work(tensor);
    }
    let mut host = tensor.to_device(Device::Cpu);
    let result = work(&mut host);
    tensor.copy_(&host);
    result
}

fn bytes(tensor: &Tensor) -> *mut u8 {
    tensor.data_ptr().cast()
}

impl ProcessGroup for MpiGroup {
    fn rank(&self) -> usize {
        self.comm.rank
    }

    fn size(&self) -> usize {
        self.comm.size
    }

    fn backend(&self) -> &'static str {
        "mpi"
    }

    fn all_reduce(&self, tensor: &mut Tensor, op: ReduceOp) -> Result<(), CollectiveError> {
        let element = self.asked("all_reduce").element(tensor)?;
        if element == Element::BF16 {
            // MPI has no such type: accumulated in float, rounded once.
            let mut wide = tensor.to_kind(Kind::Float);
            self.all_reduce(&mut wide, op)?;
            tensor.copy_(&wide);
            return Ok(());
        }
        on_host(tensor, |host| {
            // SAFETY: a contiguous host tensor of `numel` elements, borrowed mutably for the call.
            unsafe { self.comm.all_reduce(bytes(host), host.numel(), element, op) }
        })
    }

    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), CollectiveError> {
        let element = self.asked("broadcast").element(tensor)?;
        on_host(tensor, |host| {
            // SAFETY: a contiguous host tensor of `numel` elements, borrowed mutably for the call.
            unsafe { self.comm.broadcast(bytes(host), host.numel(), element, root) }
        })
    }

    fn all_gather(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        let asked = self.asked("all_gather");
        let element = asked.element(input)?;
        asked.element(output)?;
        asked.parts(self.comm.size, output, input)?;
        let source = input.to_device(Device::Cpu);
        on_host(output, |host| {
            // SAFETY: contiguous host tensors; `parts` checked that `host` holds size x numel elements.
            unsafe { self.comm.all_gather(bytes(&source), bytes(host), source.numel(), element) }
        })
    }

    fn reduce_scatter(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        let asked = self.asked("reduce_scatter");
        let element = asked.element(output)?;
        asked.element(input)?;
        asked.parts(self.comm.size, input, output)?;
        if element == Element::BF16 {
            let mut wide = output.to_kind(Kind::Float);
            self.reduce_scatter(&input.to_kind(Kind::Float), &mut wide)?;
            output.copy_(&wide);
            return Ok(());
        }
        let source = input.to_device(Device::Cpu);
        on_host(output, |host| {
            // SAFETY: contiguous host tensors; `parts` checked that `source` holds size x numel elements.
            unsafe { self.comm.reduce_scatter(bytes(&source), bytes(host), host.numel(), element) }
        })
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        self.comm.barrier()
    }

    fn barrier_within(&self, patience: Duration) -> Result<(), CollectiveError> {
        self.comm.barrier_within(patience)
    }

    fn split(&self, color: usize, key: usize) -> Result<Box<dyn ProcessGroup>, CollectiveError> {
        Ok(Box::new(Self::new(self.comm.split(color, key)?)))
    }
}
