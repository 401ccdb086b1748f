//! Memory of a GPU as libtorch's allocator counts it.

use super::ffi;
use crate::engine::failure::Failure;
use crate::engine::rank::Rank;
use crate::run::GpuMemory;
use collectives::ReduceOp;
use tch::Device;

/// The memory at a moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuMemoryNow {
    /// Of tensors.
    pub allocated: u64,
    /// That tensors can still have: free, or held by the allocator.
    pub room: u64,
    /// Not in use by any process.
    pub free: u64,
    /// Of the device.
    pub total: u64,
}

impl GpuMemoryNow {
    /// None on the CPU.
    pub fn of(device: Device) -> Option<Self> {
        let Device::Cuda(index) = device else { return None };
        let [allocated, _, reserved, _, free, total] = ffi::gpu_memory(index)?.map(|bytes| bytes as u64);
        Some(Self { allocated, room: free + reserved.saturating_sub(allocated), free, total })
    }
}

/// The greatest peaks of all ranks since the start or the last [`forget_peaks`]; none on CPUs. Collective.
pub fn peaks_of_all_ranks(rank: &Rank) -> Result<Option<GpuMemory>, Failure> {
    let own = match rank.device {
        Device::Cuda(index) => {
            ffi::gpu_memory(index).map(|[_, allocated, _, reserved, ..]| [allocated, reserved])
        }
        _ => None,
    };
    let mut peaks = own.unwrap_or([-1; 2]);
    rank.control.all_reduce(&mut peaks, ReduceOp::Max)?;
    let [allocated, reserved] = peaks.map(|bytes| u64::try_from(bytes).ok());
    Ok(allocated.zip(reserved).map(|(peak_allocated_bytes, peak_reserved_bytes)| GpuMemory {
        peak_allocated_bytes,
        peak_reserved_bytes,
    }))
}

/// Peaks of this rank are counted from now on.
pub fn forget_peaks(device: Device) {
    if let Device::Cuda(index) = device {
        ffi::forget_gpu_peaks(index);
    }
}
