//! The GPUs that CUDA shows to this process, the GPU of a thread (by the shim in `shim/set_device.cpp`), and libtorch's stream on it
//! (`shim/current_stream.cpp`).

pub use nccl_rs::{CudaRuntime, CudaVersion, Error as CudaError};

use std::ffi::{CStr, c_char, c_int, c_void};

unsafe extern "C" {
    fn collectives_set_device(index: c_int, message: *mut c_char, length: usize) -> c_int;
    fn collectives_current_stream(
        index: c_int,
        stream: *mut *mut c_void,
        message: *mut c_char,
        length: usize,
    ) -> c_int;
}

/// libtorch could not set the GPU of a thread.
#[derive(Debug, thiserror::Error)]
#[error("GPU {index} cannot be set: {message}")]
pub struct SetGpuError {
    /// Number of the GPU among those that the process sees.
    pub index: usize,
    /// The first line of libtorch's message.
    pub message: String,
}

/// Makes `index` the GPU of the calling thread. A thread starts on GPU 0, and a call that names no GPU makes a context there,
/// which takes hundreds of megabytes: a rank calls this before it allocates anything.
pub fn set_gpu(index: usize) -> Result<(), SetGpuError> {
    let mut message = [0u8; 512];
    // libtorch refuses a number that it cannot hold.
    let number = c_int::try_from(index).unwrap_or(c_int::MAX);
    // SAFETY: the shim writes a text of at most the given length that ends with a zero byte; it catches every exception.
    let code = unsafe { collectives_set_device(number, message.as_mut_ptr().cast(), message.len()) };
    if code == 0 {
        return Ok(());
    }
    Err(SetGpuError { index, message: first_line(&message) })
}

/// The `cudaStream_t` in which libtorch queues the work of the calling thread for GPU `index` (null is the default stream), or the
/// error text of libtorch. Streams of libtorch live until the process ends.
pub fn current_stream(index: usize) -> Result<*mut c_void, String> {
    let mut raw = std::ptr::null_mut();
    let mut message = [0u8; 512];
    let number = c_int::try_from(index).map_err(|_| format!("there is no GPU {index}"))?;
    // SAFETY: the shim writes one handle, or a null-terminated text of at most the given length, and catches every
    // exception.
    let code = unsafe {
        collectives_current_stream(number, &raw mut raw, message.as_mut_ptr().cast(), message.len())
    };
    if code == 0 { Ok(raw) } else { Err(first_line(&message)) }
}

/// The text that a shim wrote, without libtorch's backtrace in later lines.
fn first_line(message: &[u8]) -> String {
    let text = CStr::from_bytes_until_nul(message).unwrap_or(c"unknown error").to_string_lossy();
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_cuda_part_of_libtorch_no_gpu_can_be_set() {
        if tch::utils::has_cuda() {
            println!("skipped: without_the_cuda_part_of_libtorch_no_gpu_can_be_set (it is here)");
            return;
        }
        let text = set_gpu(3).unwrap_err().to_string();
        assert!(text.starts_with("GPU 3 cannot be set: ") && text.contains("cuda"), "{text}");
    }

    #[test]
    fn libtorch_without_cuda_returns_an_error() {
        if tch::utils::has_cuda() {
            println!("skipped: libtorch_without_cuda_returns_an_error (libtorch has CUDA)");
            return;
        }
        let text = current_stream(0).unwrap_err();
        assert!(text.contains("cuda"), "{text}");
    }
}
