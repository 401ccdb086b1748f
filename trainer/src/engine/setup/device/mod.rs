//! The device of a rank: one GPU of its host, or the CPU.
//!
//! One binary serves both: it links libtorch's CPU part only, and opens the CUDA part when a run may compute on a GPU
//! (`library.rs`). Each rank gathers facts about the GPUs of its host (`facts.rs`), a pure function decides from them
//! (`judge.rs`), and the ranks agree (`agreement.rs`).

mod agreement;
mod facts;
mod judge;
mod library;
mod report;

pub use judge::DeviceError;
pub use report::{device_report, has_cuda_part, open_cuda_part};

use crate::engine::failure::{Failure, agreed};
use agreement::RankDevice;
use collectives::gpu::set_gpu;
use collectives::{Control, World};
use facts::GpuFacts;
use judge::{Judgement, NoGpu};
use tch::Device;

/// Values of `train.device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU if there is one.
    Auto,
    /// A GPU or nothing.
    Cuda,
    /// The CPU.
    Cpu,
}

/// The device of this rank, and what rank 0 reports about the devices of all.
#[derive(Debug)]
pub struct ChosenDevice {
    /// Where this rank computes.
    pub device: Device,
    /// Why the CPU is used although a GPU seems to be present.
    pub warning: Option<String>,
    /// GPUs that no rank uses.
    pub note: Option<String>,
}

/// Chooses the device of this rank. All ranks call this, before libtorch is first used: libtorch decides once per process
/// whether it has a CUDA part.
pub fn choose(world: &World, control: &Control, choice: DeviceChoice) -> Result<ChosenDevice, Failure> {
    let judgement = agreed(control, || {
        let facts = GpuFacts::gather(choice);
        judge::judge(choice, &facts).map_err(Failure::input)
    })?;
    let own = RankDevice { host: host_name(), node: world.node(), judgement };
    let bytes = serde_json::to_vec(&own).map_err(Failure::run)?;
    let all = control.all_gather(&bytes)?;
    let all = all.iter().map(|bytes| serde_json::from_slice(bytes)).collect::<Result<Vec<RankDevice>, _>>();
    let all = all.map_err(Failure::run)?;
    agreement::same_kind(&all).map_err(|error| Failure::input(error).on_all_ranks())?;
    let device = match &own.judgement {
        Judgement::Gpu { devices } => Device::Cuda(world.local_rank() % devices),
        Judgement::Cpu { .. } => Device::Cpu,
    };
    agreed(control, || match device {
        Device::Cuda(index) => set_gpu(index).map_err(Failure::run),
        _ => Ok(()),
    })?;
    Ok(ChosenDevice { device, warning: agreement::warning(&all), note: agreement::idle_gpus(&all) })
}

fn host_name() -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
}
