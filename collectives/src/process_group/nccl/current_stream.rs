//! The current CUDA stream of libtorch, from the shim in `shim/current_stream.cpp`.

use nccl_rs::{CudaRuntime, CudaStream};
use std::ffi::{CStr, c_char, c_int, c_void};

unsafe extern "C" {
    fn collectives_current_stream(
        index: c_int,
        stream: *mut *mut c_void,
        message: *mut c_char,
        length: usize,
    ) -> c_int;
}

/// The stream on which libtorch queues the work of the calling thread for GPU `index`, or the error text of libtorch.
pub(super) fn current_stream(runtime: &CudaRuntime, index: usize) -> Result<CudaStream, String> {
    let mut raw = std::ptr::null_mut();
    let mut message = [0u8; 512];
    let index = c_int::try_from(index).map_err(|_| format!("there is no GPU {index}"))?;
    // SAFETY: the shim writes one handle, or a null-terminated text of at most the given length, and catches every
    // exception.
    let failed = unsafe {
        collectives_current_stream(index, &raw mut raw, message.as_mut_ptr().cast(), message.len()) != 0
    };
    if failed {
        let text = CStr::from_bytes_until_nul(&message).unwrap_or(c"unknown error").to_string_lossy();
        // The following lines are a backtrace of libtorch.
        return Err(text.lines().next().unwrap_or_default().to_owned());
    }
    // SAFETY: streams of libtorch live until the process ends.
    Ok(unsafe { CudaStream::borrowed(runtime, raw) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_without_cuda_returns_an_error() {
        if tch::utils::has_cuda() {
            println!("skipped: libtorch_without_cuda_returns_an_error (libtorch has CUDA)");
            return;
        }
        let (mut raw, mut message) = (std::ptr::null_mut(), [0u8; 512]);
        // SAFETY: as in `current_stream`.
        let code = unsafe {
            collectives_current_stream(0, &raw mut raw, message.as_mut_ptr().cast(), message.len())
        };
        let text = CStr::from_bytes_until_nul(&message).unwrap().to_string_lossy();
        assert!(code == 1 && text.contains("cuda"), "{code}: {text}");
    }
}
