//! Memory of a GPU as libtorch's allocator counts it.

use super::ffi;
use crate::engine::failure::Failure;
use crate::engine::rank::Rank;
use crate::run::GpuMemory;
use collectives::ReduceOp;
use tch::Device;

/// Bytes of tensors; none on the CPU.
pub fn allocated(device: Device) -> Option<u64> {
    let Device::Cuda(index) = device else { return None };
    ffi::gpu_memory(index).map(|[allocated, ..]| allocated as u64)
}

/// Bytes that tensors can still have: free, or held by the allocator. None on the CPU.
pub fn room(device: Device) -> Option<u64> {
    let Device::Cuda(index) = device else { return None };
    let [allocated, _, reserved, _] = ffi::gpu_memory(index)?;
    Some((ffi::free_gpu_memory(index)? + reserved - allocated) as u64)
}

/// The greatest peaks of all ranks since the start; none on CPUs. Collective.
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
