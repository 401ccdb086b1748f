//! What tch lacks of libtorch for a GPU: the shim in `shim/gpu.cpp`, and one function of libtorch's C interface.

use std::ffi::{c_int, c_void};
use tch::{TchError, Tensor};

/// A tensor of libtorch, as its C interface and the shim take it.
type Handle = *mut c_void;

/// Codes of libtorch's C interface.
const BYTE: i32 = 0;
const CPU: i32 = 0;

unsafe extern "C" {
    fn trainer_allow_tf32(allowed: c_int) -> c_int;
    fn trainer_be_deterministic(on: c_int) -> c_int;
    fn trainer_gpu_memory(index: c_int, figures: *mut i64) -> c_int;
    fn trainer_free_gpu_memory(index: c_int, bytes: *mut i64) -> c_int;
    fn trainer_use_pool_stream(index: c_int) -> c_int;
    fn trainer_record_event(index: c_int, event: *mut *mut c_void) -> c_int;
    fn trainer_block_on_event(index: c_int, event: *mut c_void) -> c_int;
    fn trainer_free_event(event: *mut c_void);
    fn trainer_record_stream(index: c_int, tensor: Handle) -> c_int;

    fn aoti_torch_empty_strided_pinned(
        dimensions: i64,
        sizes: *const i64,
        strides: *const i64,
        kind: i32,
        device_type: i32,
        device_index: i32,
        result: *mut Handle,
    ) -> i32;
}

/// Whether convolutions and matrix products of fp32 may use TF32. False if libtorch refuses.
#[must_use]
pub(super) fn allow_tf32(allowed: bool) -> bool {
    // SAFETY: takes a number; the shim catches every exception.
    unsafe { trainer_allow_tf32(c_int::from(allowed)) == 0 }
}

/// Whether every operation must be bitwise repeatable. False if libtorch refuses.
#[must_use]
pub(super) fn be_deterministic(on: bool) -> bool {
    // SAFETY: takes a number; the shim catches every exception.
    unsafe { trainer_be_deterministic(c_int::from(on)) == 0 }
}

/// Bytes of a GPU's allocator: of tensors now, at their peak, held now, at their peak.
pub(super) fn gpu_memory(index: usize) -> Option<[i64; 4]> {
    let mut figures = [0; 4];
    // SAFETY: the shim writes four numbers and catches every exception.
    let code = unsafe { trainer_gpu_memory(index as c_int, figures.as_mut_ptr()) };
    (code == 0).then_some(figures)
}

/// Bytes of a GPU that no process uses.
pub(super) fn free_gpu_memory(index: usize) -> Option<i64> {
    let mut bytes = 0;
    // SAFETY: the shim writes one number and catches every exception.
    let code = unsafe { trainer_free_gpu_memory(index as c_int, &raw mut bytes) };
    (code == 0).then_some(bytes)
}

/// Puts what this thread does on a GPU from now on into a stream of libtorch's pool. False if libtorch refuses.
#[must_use]
pub(in crate::engine) fn use_pool_stream(index: usize) -> bool {
    // SAFETY: takes a number; the shim catches every exception.
    unsafe { trainer_use_pool_stream(index as c_int) == 0 }
}

/// The end of the work that a thread has given to a GPU so far, in its current stream.
#[derive(Debug)]
pub(in crate::engine) struct Event {
    index: usize,
    event: *mut c_void,
}

// SAFETY: an event of CUDA belongs to no thread, and it is recorded before it is sent.
unsafe impl Send for Event {}

impl Event {
    /// Records the current stream of this thread; none if libtorch refuses.
    pub(in crate::engine) fn record(index: usize) -> Option<Self> {
        let mut event = std::ptr::null_mut();
        // SAFETY: the shim writes one pointer and catches every exception.
        let code = unsafe { trainer_record_event(index as c_int, &raw mut event) };
        (code == 0).then_some(Self { index, event })
    }

    /// Lets later work of this thread's current stream start after the event; the host does not wait. False if libtorch
    /// refuses.
    #[must_use]
    pub(in crate::engine) fn block_stream(&self) -> bool {
        // SAFETY: the event is alive; the shim catches every exception.
        unsafe { trainer_block_on_event(self.index as c_int, self.event) == 0 }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event came from the shim and is freed once.
        unsafe { trainer_free_event(self.event) }
    }
}

/// Keeps the memory of a tensor, once it is freed, from other streams until the current stream of this thread has done its
/// present work. False if libtorch refuses.
#[must_use]
pub(in crate::engine) fn record_stream(index: usize, tensor: &Tensor) -> bool {
    // SAFETY: tch's pointer is a tensor of libtorch, alive during the call; the shim catches every exception.
    unsafe { trainer_record_stream(index as c_int, tensor.as_ptr().cast_mut().cast()) == 0 }
}

/// Bytes in pinned memory of the host, which a GPU reads without the host: the parts, one after the other.
pub(super) fn pinned(parts: &[&[u8]]) -> Result<Tensor, TchError> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let (sizes, strides) = ([length as i64], [1_i64]);
    let mut handle: Handle = std::ptr::null_mut();
    // SAFETY: one size and one stride are read and one pointer is written; the function catches every exception.
    let code = unsafe {
        aoti_torch_empty_strided_pinned(1, sizes.as_ptr(), strides.as_ptr(), BYTE, CPU, 0, &raw mut handle)
    };
    if code != 0 || handle.is_null() {
        return Err(TchError::Torch(format!("cannot allocate {length} bytes of pinned memory")));
    }
    // SAFETY: the handle is a new tensor, which the caller owns.
    let tensor = unsafe { Tensor::from_ptr(handle.cast()) };
    let mut to = tensor.data_ptr().cast::<u8>();
    for part in parts {
        // SAFETY: the tensor has as many bytes as all parts, and nothing else knows it yet.
        unsafe {
            std::ptr::copy_nonoverlapping(part.as_ptr(), to, part.len());
            to = to.add(part.len());
        }
    }
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn without_a_gpu_there_are_no_figures_streams_and_events() {
        if tch::utils::has_cuda() {
            println!("skipped: without_a_gpu_there_are_no_figures_streams_and_events (there is one)");
            return;
        }
        assert_eq!((gpu_memory(0), free_gpu_memory(0)), (None, None));
        assert!(!use_pool_stream(0) && Event::record(0).is_none());
        assert!(!record_stream(0, &Tensor::zeros([1], (Kind::Float, Device::Cpu))));
        assert!(pinned(&[&[1, 2]]).is_err());
    }
}
