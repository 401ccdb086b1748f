//! This process as one rank: world, planes, device, threads.

use super::device::{self, Wish};
use super::failure::{Failure, agreed};
use crate::run::Signals;
use collectives::host::{self, CoreShare};
use collectives::{Activity, Control, ProcessGroup, World};
use std::rc::Rc;
use std::sync::Once;
use tch::Device;

/// libtorch takes this number once in the life of a process, which may make several runs.
static INTEROP: Once = Once::new();

/// One rank of a run.
pub struct Rank {
    /// The tensor plane.
    pub group: Rc<dyn ProcessGroup>,
    /// The control plane.
    pub control: Control,
    /// Where this rank computes.
    pub device: Device,
    /// Threads of libtorch.
    pub threads: usize,
    /// What this rank is doing, for its watchers.
    pub activity: Activity,
    /// Ranks on this host.
    pub local_size: usize,
    /// What a person should know about where the run computes.
    pub placement: String,
    /// Requests to stop.
    pub signals: Signals,
}

impl Rank {
    /// Chooses device and threads. Call it before libtorch is first used.
    pub fn open(
        world: &World,
        wish: Wish,
        threads: usize,
        cuda: &Result<(), String>,
        signals: Signals,
    ) -> Result<Self, Failure> {
        let control = world.control().map_err(Failure::run)?;
        let share = agreed(&control, || {
            host::share_cores(world.local_size())
                .map_err(|e| Failure::run(format!("cannot read or set the cores of this process: {e}")))
        })?;
        let threads = if threads > 0 { threads } else { share.threads };
        tch::set_num_threads(threads as i32);
        INTEROP.call_once(|| tch::set_num_interop_threads(1));
        let device =
            agreed(&control, || device::choose(wish, world.local_rank(), cuda).map_err(Failure::input))?;
        let group = Rc::from(world.process_group().map_err(Failure::run)?);
        let placement = placement(device, threads, &share);
        let local_size = world.local_size();
        let activity = world.activity().clone();
        Ok(Self { group, control, activity, device, threads, local_size, placement, signals })
    }

    /// A failure if this rank was asked to stop; for work that makes no steps, between its parts.
    pub fn check_requests(&self) -> Result<(), Failure> {
        self.signals.requested().map_or(Ok(()), |request| Err(Failure::stopped(request)))
    }

    /// The ranks of this host.
    pub fn node_group(&self) -> Result<Rc<dyn ProcessGroup>, Failure> {
        if self.local_size == self.world_size() {
            return Ok(Rc::clone(&self.group));
        }
        Err(Failure::run("several hosts"))
    }

    /// This process's number.
    pub fn number(&self) -> usize {
        self.control.rank()
    }

    /// Number of ranks.
    pub fn world_size(&self) -> usize {
        self.control.size()
    }

    /// Whether this rank talks to the terminal and writes the run folder.
    pub fn leads(&self) -> bool {
        self.number() == 0
    }
}

/// What a person should know about where a rank computes.
fn placement(device: Device, threads: usize, share: &CoreShare) -> String {
    let widened = if share.allowed > share.bound {
        format!(" (binding widened from {} to {} cores)", share.bound, share.allowed)
    } else {
        String::new()
    };
    match device {
        Device::Cpu => {
            format!("CPU, {threads} thread{} a rank{widened}", if threads == 1 { "" } else { "s" })
        }
        gpu => format!("{gpu:?}{widened}"),
    }
}
