//! The current CUDA stream of libtorch, for NCCL.

use crate::gpu;
use nccl_rs::{CudaRuntime, CudaStream};

/// The stream on which libtorch queues the work of the calling thread for GPU `index`, or the error text of libtorch.
pub(super) fn current_stream(runtime: &CudaRuntime, index: usize) -> Result<CudaStream, String> {
    let raw = gpu::current_stream(index)?;
    // SAFETY: streams of libtorch live until the process ends.
    Ok(unsafe { CudaStream::borrowed(runtime, raw) })
}
