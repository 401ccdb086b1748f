//! Collectives over NCCL, in order with libtorch's own work on the GPU.
//!
//! Each call is put into one stream of the group's own, between two events: it starts after what libtorch has
//! queued so far on its current stream, and what libtorch queues next starts after it. The host does not wait.
//! One stream serves the group and all that are split from it, since kernels of two communicators that start in
//! different orders on two ranks wait for each other for ever.
//!
//! A watcher thread (`watch.rs`) ends what can end in no other way: calls that hang, and peers that are gone.
//!
//! Without a GPU, on CPU tensors, only the stand-in of the tests does; the host waits for each call then.

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

/// What is told a text for people, from a thread of the group's.
pub type FailureCallback = Box<dyn Fn(&str) + Send + Sync>;

/// How a group over NCCL shall work, and whom it tells of failures.
pub struct NcclOptions {
    /// Where this rank's tensors are: its GPU.
    pub device: Device,
    /// How long a call may take, from when the one before it is done.
    pub timeout: Duration,
    /// Told once when a call has failed or timed out, with rank, operation and step, before it is aborted.
    /// The caller's next call (or the one in which it is stuck) gives the same as an error.
    pub on_failure: FailureCallback,
    /// Told when aborting did not free this process. It should end the process at once, by `_exit`: threads
    /// are stuck that would keep an orderly end from ending.
    pub on_stuck: FailureCallback,
}

/// The process group of ranks that have a GPU each.
pub struct NcclGroup {
    // Fields drop in this order: the communicator says goodbye while the watcher still watches.
    communicator: Arc<Communicator>,
    watched: Arc<WatchedPlane>,
}

/// Where a call reads and writes.
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
        watched.plane().watch(communicator.clone());
        Self { communicator, watched }
    }

    fn plane(&self) -> &Plane {
        self.watched.plane()
    }

    fn asked(&self, operation: &'static str) -> CallSite {
        CallSite { rank: self.plane().rank, operation }
    }

    /// The tensor's type for NCCL, if it is one that can travel and lies on the group's device.
    fn accept(&self, operation: &'static str, tensor: &Tensor) -> Result<DataType, CollectiveError> {
        let asked = self.asked(operation);
        let element = asked.element(tensor)?;
        if tensor.device() != self.plane().device {
            let (expected, found) = (format!("a tensor on {:?}", self.plane().device), tensor.device());
            return Err(asked.refuse(expected, format!("one on {found:?}")));
        }
        Ok(match element {
            Element::F32 => DataType::F32,
            Element::F64 => DataType::F64,
            Element::I64 => DataType::I64,
            Element::U8 => DataType::U8,
            Element::BF16 => DataType::BF16,
        })
    }

    /// Queues a call on tensors of `count` elements; empty ones need none, on any rank.
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

    /// Queues a call whose end is waited for later; `kept` are the tensors that it reads and writes.
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

    /// A barrier is a sum that the host waits for.
    fn meet(&self, timeout: Duration) -> Result<(), CollectiveError> {
        let plane = self.plane();
        let token = Tensor::zeros([1], (Kind::Int64, plane.device));
        let buffers = in_place(&token);
        plane.run("barrier", timeout, Waiter::OnHost, |stream| {
            // SAFETY: one element, which lives until the host has waited for the call.
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

// About memory in the calls below: libtorch gives freed memory of a stream to later work of the same stream only,
// and that stream waits for the call; so a tensor may be dropped as soon as the call has returned.
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
            // SAFETY: `count` contiguous elements on the stream's device, ordered as said above.
            unsafe { communicator.all_reduce(buffers, count, kind, op.into(), stream) }
        })
    }

    fn start_all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Pending, CollectiveError> {
        let kind = self.accept("all_reduce", tensor)?;
        self.count(Traffic::AllReduce(size_of(tensor)));
        let (buffers, count) = (in_place(tensor), tensor.numel());
        self.begin("all_reduce", vec![tensor.shallow_clone()], |communicator, stream| {
            // SAFETY: `count` contiguous elements on the stream's device, kept until the call was waited for.
            unsafe { communicator.all_reduce(buffers, count, kind, op.into(), stream) }
        })
    }

    fn start_all_gather(&self, input: &Tensor, output: &Tensor) -> Result<Pending, CollectiveError> {
        let kind = self.accept("all_gather", input)?;
        self.accept("all_gather", output)?;
        self.asked("all_gather").parts(self.size(), output, input)?;
        self.count(Traffic::GatherOrScatter(size_of(output)));
        let (buffers, count) = ((input.data_ptr().cast_const(), output.data_ptr()), input.numel());
        let kept = vec![input.shallow_clone(), output.shallow_clone()];
        self.begin("all_gather", kept, |communicator, stream| {
            // SAFETY: `count` and `count * size` contiguous elements on the stream's device, as `parts`
            // checked, kept until the call was waited for.
            unsafe { communicator.all_gather(buffers, count, kind, stream) }
        })
    }

    fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), CollectiveError> {
        let kind = self.accept("broadcast", tensor)?;
        self.count(Traffic::Broadcast(size_of(tensor)));
        let (buffers, count) = (in_place(tensor), tensor.numel());
        self.run("broadcast", count, |communicator, stream| {
            // SAFETY: `count` contiguous elements on the stream's device, ordered as said above.
            unsafe { communicator.broadcast(buffers, count, kind, root, stream) }
        })
    }

    fn all_gather(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        let kind = self.accept("all_gather", input)?;
        self.accept("all_gather", output)?;
        self.asked("all_gather").parts(self.size(), output, input)?;
        self.count(Traffic::GatherOrScatter(size_of(output)));
        let (buffers, count) = ((input.data_ptr().cast_const(), output.data_ptr()), input.numel());
        self.run("all_gather", count, |communicator, stream| {
            // SAFETY: `count` and `count * size` contiguous elements on the stream's device, as `parts`
            // checked, ordered as said above.
            unsafe { communicator.all_gather(buffers, count, kind, stream) }
        })
    }

    fn reduce_scatter(&self, input: &Tensor, output: &mut Tensor) -> Result<(), CollectiveError> {
        let kind = self.accept("reduce_scatter", output)?;
        self.accept("reduce_scatter", input)?;
        self.asked("reduce_scatter").parts(self.size(), input, output)?;
        self.count(Traffic::GatherOrScatter(size_of(input)));
        let (buffers, count) = ((input.data_ptr().cast_const(), output.data_ptr()), output.numel());
        self.run("reduce_scatter", count, |communicator, stream| {
            // SAFETY: `count * size` and `count` contiguous elements on the stream's device, as `parts`
            // checked, ordered as said above.
            unsafe { communicator.reduce_scatter(buffers, count, kind, ReduceOp::Sum.into(), stream) }
        })
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        self.meet(self.plane().timeout)
    }

    fn barrier_within(&self, timeout: Duration) -> Result<(), CollectiveError> {
        self.meet(timeout)
    }

    fn split(&self, color: usize, key: usize) -> Result<Box<dyn ProcessGroup>, CollectiveError> {
        // Every rank's wish tells each its place, so that NCCL need not be asked for it.
        let mut wish = [color as i64, key as i64];
        let own = Tensor::from_slice(&wish).to_device(self.plane().device);
        let all = Tensor::zeros([self.size() as i64, 2], (Kind::Int64, self.plane().device));
        let mut gathered = all.view(-1);
        self.all_gather(&own, &mut gathered)?;
        let gathered = gathered.to_device(Device::Cpu);
        self.check()?;
        let mut members = Vec::new();
        for rank in 0..self.size() {
            gathered.narrow(0, 2 * rank as i64, 2).copy_data(&mut wish, 2);
            if wish[0] == color as i64 {
                members.push((wish[1], rank));
            }
        }
        members.sort_unstable();
        let place = members.iter().take_while(|&&(_, rank)| rank != self.rank()).count();
        let made =
            self.plane().hold("split", || self.communicator.split(color, key, (place, members.len())))?;
        Ok(Box::new(Self::new(made, self.watched.clone())))
    }

    fn check(&self) -> Result<(), CollectiveError> {
        self.plane().check()
    }
}

impl Drop for NcclGroup {
    fn drop(&mut self) {
        self.plane().forget(&self.communicator);
    }
}
