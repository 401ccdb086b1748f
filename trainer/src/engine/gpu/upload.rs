//! Tensors of the host on their way to a GPU, without the host waiting.
//!
//! Pinned memory is read by the GPU itself. libtorch reuses it only when the copy is done, so nothing here keeps it.

use super::ffi;
use tch::{Device, Kind, TchError, Tensor};

/// Numbers of the host on a device. The host waits only if there is no pinned memory left.
pub fn upload(values: &[f64], device: Device) -> Tensor {
    let pinned = || upload_bytes(&[bytemuck::cast_slice(values)], device)?.f_view_dtype(Kind::Double);
    let queued = if device.is_cuda() { pinned().ok() } else { None };
    queued.unwrap_or_else(|| Tensor::from_slice(values).to_device(device))
}

/// Bytes of the host on a GPU, the parts one after the other, copied once in the current stream.
pub(in crate::engine) fn upload_bytes(parts: &[&[u8]], device: Device) -> Result<Tensor, TchError> {
    ffi::pinned(parts)?.f_to_device_(device, Kind::Uint8, /* non_blocking */ true, /* copy */ false)
}
