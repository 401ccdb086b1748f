//! Collectives over MPI, in place in the memory of the tensor.
//!
//! Tensors on a GPU are copied to host memory first, because few MPI libraries can read device memory.

use super::progress_thread::ProgressThread;
use super::tensors::{CallSite, size_of};
use super::{Pending, ProcessGroup, Traffic};
use crate::error::CollectiveError;
use crate::raw::{Element, MpiComm};
use crate::reduce_op::ReduceOp;
use std::cell::OnceCell;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// A process group over MPI.
pub struct MpiGroup {
    comm: MpiComm,
    /// The communicator of the progress thread.
    progress_comm: MpiComm,
    progress_thread: OnceCell<ProgressThread>,
}

impl MpiGroup {
    /// Takes two communicators of the same ranks: one for this thread, one for the progress thread.
    pub(crate) fn new(comm: MpiComm, progress_comm: MpiComm) -> Self {
        Self { comm, progress_comm: progress_comm.unmonitored(), progress_thread: OnceCell::new() }
    }

    fn call_site(&self, operation: &'static str) -> CallSite {
        CallSite { rank: self.comm.world_rank, operation }
    }

    fn reducible(&self, tensor: &Tensor) -> Result<Element, CollectiveError> {
        let element = self.call_site("all_reduce").element(tensor)?;
        // MPI has no bfloat16, so the tensor is sent as float.
        let widened = if element == Element::BF16 { 2 } else { 1 };
        self.count(Traffic::AllReduce(size_of(tensor) * widened));
        Ok(element)
    }

    fn gatherable(&self, input: &Tensor, output: &Tensor) -> Result<Element, CollectiveError> {
        let call_site = self.call_site("all_gather");
        let element = call_site.element(input)?;
        call_site.element(output)?;
        call_site.parts(self.comm.size, output, input)?;
        self.count(Traffic::GatherOrScatter(size_of(output)));
        Ok(element)
    }

    fn count(&self, traffic: Traffic) {
        self.comm.activity().add_bytes(traffic.bytes(self.comm.size));
    }

    /// The progress thread, which the first asynchronous call starts.
    fn progress_thread(&self, operation: &'static str) -> Result<&ProgressThread, CollectiveError> {
        if let Some(progress_thread) = self.progress_thread.get() {
            return Ok(progress_thread);
        }
        let rank = self.comm.world_rank;
        let started = ProgressThread::start(rank, self.comm.activity().clone());
        let progress_thread = started.map_err(|_| CollectiveError::Thread { rank, operation })?;
        Ok(self.progress_thread.get_or_init(|| progress_thread))
    }
}

/// Runs `work` on host memory: on the tensor itself on the CPU, or on a copy that is written back to a GPU.
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

/// `output` must hold size x n elements for an input of n elements.
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
        let (comm, mut tensor) = (self.progress_comm.clone(), tensor.shallow_clone());
        let work = move || reduce(&comm, &mut tensor, element, op);
        Ok(self.progress_thread("all_reduce")?.submit("all_reduce", Box::new(work)))
    }

    fn start_all_gather(&self, input: &Tensor, output: &Tensor) -> Result<Pending, CollectiveError> {
        let element = self.gatherable(input, output)?;
        let (comm, input, mut output) =
            (self.progress_comm.clone(), input.shallow_clone(), output.shallow_clone());
        let work = move || gather(&comm, &input, &mut output, element);
        Ok(self.progress_thread("all_gather")?.submit("all_gather", Box::new(work)))
    }

    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), CollectiveError> {
        let element = self.call_site("broadcast").element(tensor)?;
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
        let call_site = self.call_site("reduce_scatter");
        let element = call_site.element(output)?;
        call_site.element(input)?;
        call_site.parts(self.comm.size, input, output)?;
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
        let progress_comm = self.comm.split(color, key)?;
        Ok(Box::new(Self::new(self.comm.split(color, key)?, progress_comm)))
    }
}
