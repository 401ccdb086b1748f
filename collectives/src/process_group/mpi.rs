//! Collectives over MPI, in place on the tensor's own memory.
//!
//! Tensors on a GPU pass through host memory, since MPI libraries rarely read device memory.

use super::progress_thread::ProgressThread;
use super::tensors::{CallSite, size_of};
use super::{Pending, ProcessGroup, Traffic};
use crate::error::CollectiveError;
use crate::raw::{Element, MpiComm};
use crate::reduce_op::ReduceOp;
use std::cell::OnceCell;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// The process group of ranks that MPI joins.
pub struct MpiGroup {
    comm: MpiComm,
    /// For the calls of the thread beside.
    beside: MpiComm,
    side: OnceCell<ProgressThread>,
}

impl MpiGroup {
    /// Two communicators of the same ranks: one for this thread, one for the thread beside.
    pub(crate) fn new(comm: MpiComm, beside: MpiComm) -> Self {
        Self { comm, beside: beside.unannounced(), side: OnceCell::new() }
    }

    fn asked(&self, operation: &'static str) -> CallSite {
        CallSite { rank: self.comm.world_rank, operation }
    }

    fn reducible(&self, tensor: &Tensor) -> Result<Element, CollectiveError> {
        let element = self.asked("all_reduce").element(tensor)?;
        // MPI has no bfloat16: it travels as float.
        let widened = if element == Element::BF16 { 2 } else { 1 };
        self.count(Traffic::AllReduce(size_of(tensor) * widened));
        Ok(element)
    }

    fn gatherable(&self, input: &Tensor, output: &Tensor) -> Result<Element, CollectiveError> {
        let asked = self.asked("all_gather");
        let element = asked.element(input)?;
        asked.element(output)?;
        asked.parts(self.comm.size, output, input)?;
        self.count(Traffic::GatherOrScatter(size_of(output)));
        Ok(element)
    }

    fn count(&self, traffic: Traffic) {
        self.comm.activity().add_bytes(traffic.bytes(self.comm.size));
    }

    /// The thread beside, which is started when it is first needed.
    fn side(&self, operation: &'static str) -> Result<&ProgressThread, CollectiveError> {
        if let Some(side) = self.side.get() {
            return Ok(side);
        }
        let rank = self.comm.world_rank;
        let started = ProgressThread::start(rank, self.comm.activity().clone());
        let side = started.map_err(|_| CollectiveError::Thread { rank, operation })?;
        Ok(self.side.get_or_init(|| side))
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

fn reduce(
    comm: &MpiComm,
    tensor: &mut Tensor,
    element: Element,
    op: ReduceOp,
) -> Result<(), CollectiveError> {
    if element == Element::BF16 {
        // Accumulated in float, rounded once.
        let mut wide = tensor.to_kind(Kind::Float);
        reduce(comm, &mut wide, Element::F32, op)?;
        tensor.copy_(&wide);
        return Ok(());
    }
    on_host(tensor, |host| {
        // SAFETY: a contiguous host tensor of `numel` elements, which nothing else uses during the call.
        unsafe { comm.all_reduce(bytes(host), host.numel(), element, op) }
    })
}

/// `output` holds as many elements as all ranks' inputs together.
fn gather(
    comm: &MpiComm,
    input: &Tensor,
    output: &mut Tensor,
    element: Element,
) -> Result<(), CollectiveError> {
    let source = input.to_device(Device::Cpu);
    on_host(output, |host| {
        // SAFETY: contiguous host tensors; the caller checked that `host` holds size x numel elements.
        unsafe { comm.all_gather(bytes(&source), bytes(host), source.numel(), element) }
    })
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
        let element = self.reducible(tensor)?;
        reduce(&self.comm, tensor, element, op)
    }

    fn start_all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Pending, CollectiveError> {
        let element = self.reducible(tensor)?;
        let (comm, mut tensor) = (self.beside.clone(), tensor.shallow_clone());
        let work = move || reduce(&comm, &mut tensor, element, op);
        Ok(self.side("all_reduce")?.submit("all_reduce", Box::new(work)))
    }

    fn start_all_gather(&self, input: &Tensor, output: &Tensor) -> Result<Pending, CollectiveError> {
        let element = self.gatherable(input, output)?;
        let (comm, input, mut output) = (self.beside.clone(), input.shallow_clone(), output.shallow_clone());
        let work = move || gather(&comm, &input, &mut output, element);
        Ok(self.side("all_gather")?.submit("all_gather", Box::new(work)))
    }

    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), CollectiveError> {
        let element = self.asked("broadcast").element(tensor)?;
        self.count(Traffic::Broadcast(size_of(tensor)));
        on_host(tensor, |host| {
            // SAFETY: a contiguous host tensor of `numel` elements, borrowed mutably for the call.
            unsafe { self.comm.broadcast(bytes(host), host.numel(), element, root) }
        })
    }

    fn all_gather(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        let element = self.gatherable(input, output)?;
        gather(&self.comm, input, output, element)
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
        self.count(Traffic::GatherOrScatter(size_of(input)));
        let source = input.to_device(Device::Cpu);
        on_host(output, |host| {
            // SAFETY: contiguous host tensors; `parts` checked that `source` holds size x numel elements.
            unsafe { self.comm.reduce_scatter(bytes(&source), bytes(host), host.numel(), element) }
        })
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        self.comm.barrier()
    }

    fn barrier_within(&self, timeout: Duration) -> Result<(), CollectiveError> {
        self.comm.barrier_within(timeout)
    }

    fn split(&self, color: usize, key: usize) -> Result<Box<dyn ProcessGroup>, CollectiveError> {
        let beside = self.comm.split(color, key)?;
        Ok(Box::new(Self::new(self.comm.split(color, key)?, beside)))
    }
}
