//! This process as one rank: world, planes, device, threads.

use crate::aten::cache_cpu_tensors;
use crate::config::{Backend, DistributedOptions};
use crate::engine::failure::{Failure, agreed};
use crate::engine::panics;
use crate::engine::setup::device::{self, ChosenDevice, DeviceChoice};
use crate::engine::training::stopping::StopListener;
use crate::run::{Deadline, final_status, say, start_limit};
use collectives::host::{self, CoreShare};
use collectives::liveness::{Diagnosis, Liveness, LivenessOptions, StepClock};
use collectives::{Activity, CollectiveError, Control, NcclOptions, ProcessGroup, World, stand_in};
use protocol::Outcome;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;
use tch::Device;

/// libtorch accepts this number once per process, and a process may make several runs.
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
    /// Cores of this rank: its share of those of the host.
    pub cores: usize,
    /// The current activity of this rank, for the liveness watch.
    pub activity: Activity,
    /// Ranks on this host.
    pub local_size: usize,
    /// Identifier of this host: its lowest rank.
    pub node: usize,
    /// Description of where the run computes, for messages.
    pub placement: String,
    /// GPUs that no rank uses, if there are any, for messages.
    pub idle_gpus: Option<String>,
    /// Requests to stop.
    pub stopping: StopListener,
    timeout: Duration,
    liveness: RefCell<Option<Liveness>>,
}

/// Longest time until a stopped process is detected.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);
/// A step that takes as long as this many others counts as stuck.
const STALL_FACTOR: u32 = 5;

impl Rank {
    /// Chooses device and threads. Call it before libtorch is first used.
    pub fn open(
        world: &World,
        wish: DeviceChoice,
        threads: usize,
        stopping: StopListener,
        options: &DistributedOptions,
    ) -> Result<Self, Failure> {
        let control = world.control().map_err(Failure::run)?;
        let share = agreed(&control, || {
            host::share_cores(world.local_size())
                .map_err(|e| Failure::run(format!("cannot read or set the cores of this process: {e}")))
        })?;
        let cores = share.threads;
        let threads = if threads > 0 { threads } else { cores };
        tch::set_num_threads(threads as i32);
        INTEROP.call_once(|| tch::set_num_interop_threads(1));
        cache_cpu_tensors();
        let ChosenDevice { device, warning, note: idle_gpus } = device::choose(world, &control, wish)?;
        if let Some(warning) = warning.filter(|_| world.rank() == 0) {
            tracing::warn!("{warning}");
        }
        let placement = placement(device, threads, &share);
        let local_size = world.local_size();
        let activity = world.activity().clone();
        let (timeout, node) = (Duration::from_secs(options.timeout_seconds), world.node());
        activity.begin("starting", timeout);
        let asked = stopping.clone();
        let watch = LivenessOptions {
            silence: timeout.min(LONGEST_SILENCE),
            exit_code: i32::from(Outcome::FAILED),
            on_ask: Box::new(move |code| asked.asked_elsewhere(code)),
            on_verdict: report_to(world.rank()),
            ..LivenessOptions::default()
        };
        let limit = start_limit().map_err(Failure::input)?;
        let meeting = Deadline::start("the start of the ranks", world.rank(), limit);
        let liveness = Liveness::start(&control, &activity, watch).map_err(Failure::run)?;
        drop(meeting);
        panics::describe((world.rank(), world.size()), activity.clone());
        stopping.begin(world.rank(), liveness.stop_notifier());
        let group = match group(world, &control, device, options) {
            #[cfg(feature = "faults")]
            Ok(group) => Rc::from(crate::engine::training::omitted_call::planted(group)),
            #[cfg(not(feature = "faults"))]
            Ok(group) => Rc::from(group),
            Err(failure) => {
                // An error that all ranks detect must not look like the death of the first rank that ends.
                if failure.common {
                    liveness.goodbye();
                } else {
                    std::mem::forget(liveness);
                }
                return Err(failure);
            }
        };
        let liveness = RefCell::new(Some(liveness));
        Ok(Self {
            group,
            control,
            device,
            threads,
            cores,
            activity,
            local_size,
            node,
            placement,
            idle_gpus,
            stopping,
            timeout,
            liveness,
        })
    }

    /// Begins a part of the run, in which a rank may make no progress for the configured time.
    pub fn begin(&self, phase: &'static str) {
        self.activity.begin(phase, self.timeout);
    }

    /// Sets the time limit of a step for the liveness watch, after a step that took `elapsed`.
    pub fn step_took(&self, elapsed: Duration, clock: &mut StepClock) {
        clock.record(elapsed);
        if let Some(timeout) = clock.timeout() {
            self.activity.set_timeout(timeout.min(self.timeout));
        }
    }

    /// Skips the orderly shutdown: this rank is about to end the job, while others wait for it in a collective.
    pub fn stay_watched(&self) {
        std::mem::forget(self.liveness.take());
    }

    /// Durations of steps, for [`step_took`](Self::step_took).
    pub fn step_clock(stall_seconds: f64) -> StepClock {
        StepClock::new(Duration::from_secs_f64(stall_seconds), STALL_FACTOR)
    }

    /// Fails if this rank received a request to stop; for work without steps, between its parts.
    pub fn check_requests(&self) -> Result<(), Failure> {
        self.stopping.check()
    }

    /// The group of the ranks of this host; all ranks call this.
    pub fn node_group(&self) -> Result<Rc<dyn ProcessGroup>, Failure> {
        if self.local_size == self.world_size() {
            return Ok(Rc::clone(&self.group));
        }
        Ok(Rc::from(self.group.split(self.node, self.number())?))
    }

    /// This process's number.
    pub fn number(&self) -> usize {
        self.control.rank()
    }

    /// What computes: `cpu`, `cuda`, or the stand-in of the tests for the latter.
    pub fn device_name(&self) -> &'static str {
        device_name(self.device)
    }

    /// Number of ranks.
    pub fn world_size(&self) -> usize {
        self.control.size()
    }

    /// Whether this rank writes to the terminal and the run folder.
    pub fn leads(&self) -> bool {
        self.number() == 0
    }
}

/// The tensor plane of the configuration, or the default of the device.
fn group(
    world: &World,
    control: &Control,
    device: Device,
    options: &DistributedOptions,
) -> Result<Box<dyn ProcessGroup>, Failure> {
    let over_nccl = match options.backend {
        Backend::Mpi => false,
        Backend::Nccl => true,
        Backend::Auto => device.is_cuda() && world.size() > 1,
    };
    if !over_nccl {
        return world.process_group().map_err(Failure::run);
    }
    let rank = world.rank();
    let options = NcclOptions {
        device,
        timeout: Duration::from_secs(options.timeout_seconds),
        on_failure: Box::new(|message| say(format_args!("error: {message}"))),
        on_stuck: Box::new(move |message| {
            say(format_args!("error: {message}; rank {rank} cannot leave its collective and ends"));
            // SAFETY: ends the process at once, which is required because a thread hangs and blocks an orderly
            // shutdown.
            unsafe { nix::libc::_exit(i32::from(Outcome::FAILED)) }
        }),
    };
    world.nccl_group(control, options).map_err(|error| match error {
        // An error that all ranks have detected before the run started.
        CollectiveError::Unavailable { .. } | CollectiveError::SameGpu { .. } => {
            Failure::input(error).on_all_ranks()
        }
        error => Failure::run(error),
    })
}

/// Description of where a rank computes, for messages.
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
        gpu if stand_in::cuda_is_stand_in() => format!("{gpu:?}, a stand-in for tests{widened}"),
        gpu => format!("{gpu:?}{widened}"),
    }
}

fn device_name(device: Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        _ if stand_in::cuda_is_stand_in() => "cuda (stand-in)",
        _ => "cuda",
    }
}

impl Drop for Rank {
    /// Shuts the ranks down in order; a process that ends without this counts as dead.
    fn drop(&mut self) {
        if let Some(liveness) = self.liveness.take() {
            liveness.goodbye();
        }
    }
}

/// Reaction of a rank to a dead or stuck rank: one rank reports it and writes the final status in the run folder.
fn report_to(own: usize) -> Box<dyn Fn(&Diagnosis) + Send + Sync> {
    Box::new(move |verdict| {
        let speaker = usize::from(verdict.rank == 0);
        if own != speaker && (own, verdict.rank) != (0, 0) {
            return;
        }
        // The log has already printed rank 0's errors on the terminal.
        if own != 0 {
            say(format_args!("error: {verdict}"));
        }
        if let Err(error) = final_status::write(Outcome::Failed, &verdict.to_string(), None) {
            tracing::error!("{error}");
        }
    })
}
