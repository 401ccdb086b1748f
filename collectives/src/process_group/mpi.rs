//! Collectives over MPI, in place on the tensor's own memory.
//!
//! Tensors on a GPU pass through host memory, since MPI libraries rarely read device memory.

use super::side::Side;
use super::{Pending, ProcessGroup, ReduceOp, Traffic};
use crate::error::CollectiveError;
use crate::raw::{Comm, Element};
use tch::{Device, Kind, Tensor};

/// The process group of ranks that MPI joins.
pub struct MpiGroup {
    comm: Comm,
    /// For the calls of the thread beside.
    beside: Comm,
    side: Side,
}

impl MpiGroup {
    /// Two communicators of the same ranks: one for this thread, one for the thread beside.
    pub(crate) fn new(comm: Comm, beside: Comm) -> std::io::Result<Self> {
        let side = Side::start(comm.rank, comm.activity().clone())?;
        Ok(Self { comm, beside: beside.unannounced(), side })
    }

    fn element(&self, operation: &'static str, tensor: &Tensor) -> Result<Element, CollectiveError> {
        let refuse = |expected: &str, found: String| CollectiveError::Tensor {
            rank: self.comm.rank,
            operation,
            expected: expected.to_owned(),
            found,
        };
        if !tensor.is_contiguous() {
            return Err(refuse("a contiguous tensor", format!("one with strides {:?}", tensor.stride())));
        }
        match tensor.kind() {
            Kind::Float => Ok(Element::F32),
            Kind::Double => Ok(Element::F64),
            Kind::Int64 => Ok(Element::I64),
            Kind::Uint8 => Ok(Element::U8),
            other => Err(refuse("kind Float, Double, Int64 or Uint8", format!("{other:?}"))),
        }
    }

    fn count(&self, traffic: Traffic) {
        self.comm.activity().add_bytes(traffic.bytes(self.comm.size));
    }

    fn gatherable(&self, input: &Tensor, output: &Tensor) -> Result<Element, CollectiveError> {
        let element = self.element("all_gather", input)?;
        self.element("all_gather", output)?;
        self.parts("all_gather", output, input)?;
        Ok(element)
    }

    fn parts(&self, operation: &'static str, whole: &Tensor, part: &Tensor) -> Result<(), CollectiveError> {
        if whole.numel() == part.numel() * self.comm.size && whole.kind() == part.kind() {
            return Ok(());
        }
        Err(CollectiveError::Tensor {
            rank: self.comm.rank,
            operation,
            expected: format!("{} parts of {} elements of {:?}", self.comm.size, part.numel(), part.kind()),
            found: format!("{} elements of {:?}", whole.numel(), whole.kind()),
        })
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

fn reduce(comm: &Comm, tensor: &mut Tensor, element: Element, op: ReduceOp) -> Result<(), CollectiveError> {
    on_host(tensor, |host| {
        // SAFETY: a contiguous host tensor of `numel` elements, which nothing else uses during the call.
        unsafe { comm.all_reduce(bytes(host), host.numel(), element, op) }
    })
}

/// `output` holds as many elements as all ranks' inputs together.
fn gather(comm: &Comm, input: &Tensor, output: &mut Tensor, element: Element) -> Result<(), CollectiveError> {
    let source = input.to_device(Device::Cpu);
    on_host(output, |host| {
        // SAFETY: contiguous host tensors; the caller checked that `host` holds size x numel elements.
        unsafe { comm.all_gather(bytes(&source), bytes(host), source.numel(), element) }
    })
}

fn size_of(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
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
        let element = self.element("all_reduce", tensor)?;
        self.count(Traffic::AllReduce(size_of(tensor)));
        reduce(&self.comm, tensor, element, op)
    }

    fn start_all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Pending, CollectiveError> {
        let element = self.element("all_reduce", tensor)?;
        self.count(Traffic::AllReduce(size_of(tensor)));
        let (comm, mut tensor) = (self.beside.clone(), tensor.shallow_clone());
        Ok(self.side.submit("all_reduce", Box::new(move || reduce(&comm, &mut tensor, element, op))))
    }

    fn start_all_gather(&self, input: &Tensor, output: &Tensor) -> Result<Pending, CollectiveError> {
        let element = self.gatherable(input, output)?;
        self.count(Traffic::GatherOrScatter(size_of(output)));
        let (comm, input, mut output) = (self.beside.clone(), input.shallow_clone(), output.shallow_clone());
        Ok(self.side.submit("all_gather", Box::new(move || gather(&comm, &input, &mut output, element))))
    }

    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), CollectiveError> {
        let element = self.element("broadcast", tensor)?;
        self.count(Traffic::Broadcast(size_of(tensor)));
        on_host(tensor, |host| {
            // SAFETY: a contiguous host tensor of `numel` elements, borrowed mutably for the call.
            unsafe { self.comm.broadcast(bytes(host), host.numel(), element, root) }
        })
    }

    fn all_gather(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        let element = self.gatherable(input, output)?;
        self.count(Traffic::GatherOrScatter(size_of(output)));
        gather(&self.comm, input, output, element)
    }

    fn reduce_scatter(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        let element = self.element("reduce_scatter", output)?;
        self.element("reduce_scatter", input)?;
        self.parts("reduce_scatter", input, output)?;
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
}
