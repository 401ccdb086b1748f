//! Collectives over NCCL, ordered with the work of libtorch on the GPU.
//!
//! Each call is queued on a separate stream between two events: it starts after the work that libtorch has already
//! queued on its current stream, and later work of libtorch starts after it. The host does not wait. A group and all
//! groups split from it share one stream, because the kernels of two communicators deadlock if two ranks start them in
//! different orders.
//!
//! A watcher thread (`watch.rs`) aborts calls that hang, e.g. because a peer has died.
//!
//! CPU tensors work only with the stand-in of the tests; the host then waits for each call.

mod current_stream;
mod plane;
mod start;
mod watch;

use super::tensors::{CallSite, size_of};
use super::{Pending, ProcessGroup, Traffic};
use crate::activity::Activity;
use crate::control::Control;
use crate::error::CollectiveError;
use crate::raw::Element;
use crate::reduce_op::ReduceOp;
use nccl_rs::{Communicator, CudaStream, DataType};
use plane::{Plane, Waiter};
use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;
use tch::{Device, Kind, Tensor};
use watch::WatchedPlane;

/// A callback that receives an error text, on a thread of the group.
pub type FailureCallback = Box<dyn Fn(&str) + Send + Sync>;

/// Options of a group over NCCL, and its callbacks for failures.
pub struct NcclOptions {
    /// The device of this rank's tensors: its GPU.
    pub device: Device,
    /// Timeout of a call, counted from the end of the previous call.
    pub timeout: Duration,
    /// Called once when a call has failed or timed out, before it is aborted; the text contains rank, operation and
    /// step. The current or next call of the caller returns the same error.
    pub on_failure: FailureCallback,
    /// Called if aborting does not release this process. The callback should end the process at once with `_exit`,
    /// because stuck threads would block a normal exit.
    pub on_stuck: FailureCallback,
}

/// A process group over NCCL, for ranks with one GPU each.
pub struct NcclGroup {
    // Fields drop in this order: the communicator is finalised while the watcher still runs.
    communicator: Arc<Communicator>,
    watched: Arc<WatchedPlane>,
}

/// Send and receive pointers of a call.
type Buffers = (*const c_void, *mut c_void);

impl NcclGroup {
    pub(crate) fn start(
        control: &Control,
        activity: &Activity,
        options: NcclOptions,
    ) -> Result<Self, CollectiveError> {
        let (communicator, watched) = start::start(control, activity, options)?;
        Ok(Self::new(communicator, watched))
    }

    fn new(communicator: Communicator, watched: Arc<WatchedPlane>) -> Self {
        let communicator = Arc::new(communicator);
        watched.plane().register(communicator.clone());
        Self { communicator, watched }
    }

    fn plane(&self) -> &Plane {
        self.watched.plane()
    }

    fn call_site(&self, operation: &'static str) -> CallSite {
        CallSite { rank: self.plane().rank, operation }
    }

    /// The NCCL data type of the tensor, or an error if its kind or device is not supported.
    fn accept(&self, operation: &'static str, tensor: &Tensor) -> Result<DataType, CollectiveError> {
        let call_site = self.call_site(operation);
        let element = call_site.element(tensor)?;
        if tensor.device() != self.plane().device {
            let (expected, found) = (format!("a tensor on {:?}", self.plane().device), tensor.device());
            return Err(call_site.refuse(expected, format!("one on {found:?}")));
        }
        Ok(match element {
            Element::F32 => DataType::F32,
            Element::F64 => DataType::F64,
            Element::I64 => DataType::I64,
            Element::U8 => DataType::U8,
            Element::BF16 => DataType::BF16,
        })
    }

    /// Queues a call on tensors of `count` elements. Empty tensors, which are empty on every rank, need no call.
    fn run(
        &self,
        operation: &'static str,
        count: usize,
        call: impl FnOnce(&Communicator, &CudaStream) -> Result<(), nccl_rs::Error>,
    ) -> Result<(), CollectiveError> {
        if count == 0 {
            return self.plane().check();
        }
        let plane = self.plane();
        plane.run(operation, plane.timeout, Waiter::OnDevice, |stream| call(&self.communicator, stream))
    }

    /// Queues an asynchronous call; `kept` are the tensors that it reads and writes.
    fn begin(
        &self,
        operation: &'static str,
        kept: Vec<Tensor>,
        call: impl FnOnce(&Communicator, &CudaStream) -> Result<(), nccl_rs::Error>,
    ) -> Result<Pending, CollectiveError> {
        if kept.first().is_none_or(|tensor| tensor.numel() == 0) {
            return self.plane().check().map(|()| Pending::done());
        }
        let plane = self.plane();
        let done = plane.start(operation, plane.timeout, |stream| call(&self.communicator, stream))?;
        let watched = self.watched.clone();
        Ok(Pending::new(move || {
            let _entered = watched.plane().activity.enter_collective(operation);
            let finished = watched.plane().finish(operation, Waiter::OnDevice, &done);
            drop(kept);
            finished
        }))
    }

    fn count(&self, traffic: Traffic) {
        self.plane().activity.add_bytes(traffic.bytes(self.size()));
    }

    /// A barrier: an all-reduce for which the host waits.
    fn barrier_with_timeout(&self, timeout: Duration) -> Result<(), CollectiveError> {
        let plane = self.plane();
        let token = Tensor::zeros([1], (Kind::Int64, plane.device));
        let buffers = in_place(&token);
        plane.run("barrier", timeout, Waiter::OnHost, |stream| {
            // SAFETY: one element, which stays alive until the host has waited for the call.
            unsafe { self.communicator.all_reduce(buffers, 1, DataType::I64, ReduceOp::Sum.into(), stream) }
        })
    }
}

fn in_place(tensor: &Tensor) -> Buffers {
    (tensor.data_ptr(), tensor.data_ptr())
}

impl From<ReduceOp> for nccl_rs::RedOp {
    fn from(op: ReduceOp) -> Self {
        match op {
            ReduceOp::Sum => Self::Sum,
            ReduceOp::Max => Self::Max,
            ReduceOp::Min => Self::Min,
        }
    }
}

// Memory in the calls below: libtorch reuses freed memory of a stream only for later work on the same stream, and that
// stream waits for the call. A tensor may therefore be dropped as soon as the call has returned.
impl ProcessGroup for NcclGroup {
    fn rank(&self) -> usize {
        self.communicator.rank()
    }

    fn size(&self) -> usize {
        self.communicator.size()
    }

    fn backend(&self) -> &'static str {
        if self.plane().stand_in { "nccl (stand-in)" } else { "nccl" }
    }

    fn all_reduce(&self, tensor: &mut Tensor, op: ReduceOp) -> Result<(), CollectiveError> {
        let kind = self.accept("all_reduce", tensor)?;
        self.count(Traffic::AllReduce(size_of(tensor)));
        let (buffers, count) = (in_place(tensor), tensor.numel());
        self.run("all_reduce", count, |communicator, stream| {
            // SAFETY: `count` contiguous elements on the stream's device, ordered as described above.
            unsafe { communicator.all_reduce(buffers, count, kind, op.into(), stream) }
        })
    }

    fn start_all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Pending, CollectiveError> {
        let kind = self.accept("all_reduce", tensor)?;
        self.count(Traffic::AllReduce(size_of(tensor)));
        let (buffers, count) = (in_place(tensor), tensor.numel());
        self.begin("all_reduce", vec![tensor.shallow_clone()], |communicator, stream| {
            // SAFETY: `count` contiguous elements on the stream's device, kept until `Pending::wait`.
            unsafe { communicator.all_reduce(buffers, count, kind, op.into(), stream) }
        })
    }

    fn start_all_gather(&self, input: &Tensor, output: &Tensor) -> Result<Pending, CollectiveError> {
        let kind = self.accept("all_gather", input)?;
        self.accept("all_gather", output)?;
        self.call_site("all_gather").parts(self.size(), output, input)?;
        self.count(Traffic::GatherOrScatter(size_of(output)));
        let (buffers, count) = ((input.data_ptr().cast_const(), output.data_ptr()), input.numel());
        let kept = vec![input.shallow_clone(), output.shallow_clone()];
        self.begin("all_gather", kept, |communicator, stream| {
            // SAFETY: `count` and `count * size` contiguous elements on the stream's device, as `parts` has
            // checked, kept until `Pending::wait`.
            unsafe { communicator.all_gather(buffers, count, kind, stream) }
        })
    }

    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), CollectiveError> {
        let kind = self.accept("broadcast", tensor)?;
        self.count(Traffic::Broadcast(size_of(tensor)));
        let (buffers, count) = (in_place(tensor), tensor.numel());
        self.run("broadcast", count, |communicator, stream| {
            // SAFETY: `count` contiguous elements on the stream's device, ordered as described above.
            unsafe { communicator.broadcast(buffers, count, kind, root, stream) }
        })
    }

    fn all_gather(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        let kind = self.accept("all_gather", input)?;
        self.accept("all_gather", output)?;
        self.call_site("all_gather").parts(self.size(), output, input)?;
        self.count(Traffic::GatherOrScatter(size_of(output)));
        let (buffers, count) = ((input.data_ptr().cast_const(), output.data_ptr()), input.numel());
        self.run("all_gather", count, |communicator, stream| {
            // SAFETY: `count` and `count * size` contiguous elements on the stream's device, as `parts` has
            // checked, ordered as described above.
            unsafe { communicator.all_gather(buffers, count, kind, stream) }
        })
    }

    fn reduce_scatter(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        let kind = self.accept("reduce_scatter", output)?;
        self.accept("reduce_scatter", input)?;
        self.call_site("reduce_scatter").parts(self.size(), input, output)?;
        self.count(Traffic::GatherOrScatter(size_of(input)));
        let (buffers, count) = ((input.data_ptr().cast_const(), output.data_ptr()), output.numel());
        self.run("reduce_scatter", count, |communicator, stream| {
            // SAFETY: `count * size` and `count` contiguous elements on the stream's device, as `parts` has
            // checked, ordered as described above.
            unsafe { communicator.reduce_scatter(buffers, count, kind, ReduceOp::Sum.into(), stream) }
        })
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        self.barrier_with_timeout(self.plane().timeout)
    }

    fn barrier_within(&self, timeout: Duration) -> Result<(), CollectiveError> {
        self.barrier_with_timeout(timeout)
    }

    fn split(&self, color: usize, key: usize) -> Result<Box<dyn ProcessGroup>, CollectiveError> {
        // Gathers color and key of all ranks to compute the rank and size of this rank in the new group.
        let mut color_and_key = [color as i64, key as i64];
        let own = Tensor::from_slice(&color_and_key).to_device(self.plane().device);
        let all = Tensor::zeros([self.size() as i64, 2], (Kind::Int64, self.plane().device));
        let mut gathered = all.view(-1);
        self.all_gather(&own, &mut gathered)?;
        let gathered = gathered.to_device(Device::Cpu);
        self.check()?;
        let mut members = Vec::new();
        for rank in 0..self.size() {
            gathered.narrow(0, 2 * rank as i64, 2).copy_data(&mut color_and_key, 2);
            if color_and_key[0] == color as i64 {
                members.push((color_and_key[1], rank));
            }
        }
        members.sort_unstable();
        let place = members.iter().take_while(|&&(_, rank)| rank != self.rank()).count();
        let split = self
            .plane()
            .run_blocking("split", || self.communicator.split(color, key, (place, members.len())))?;
        Ok(Box::new(Self::new(split, self.watched.clone())))
    }

    fn check(&self) -> Result<(), CollectiveError> {
        self.plane().check()
    }
}

impl Drop for NcclGroup {
    fn drop(&mut self) {
        self.plane().unregister(&self.communicator);
    }
}
