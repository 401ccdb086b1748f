//! The stream of a GPU in which libtorch queues the work of a thread.

use std::ffi::{c_int, c_void};

unsafe extern "C" {
    fn trainer_current_stream(index: c_int, stream: *mut *mut c_void) -> c_int;
}

/// The `cudaStream_t` of the calling thread on GPU `index`; null is the default stream. None if libtorch refuses.
pub fn current_stream(index: usize) -> Option<*mut c_void> {
    let mut stream = std::ptr::null_mut();
    // SAFETY: the shim writes one pointer and catches every exception.
    let code = unsafe { trainer_current_stream(index as c_int, &raw mut stream) };
    (code == 0).then_some(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_gpu_there_is_no_stream() {
        if tch::utils::has_cuda() {
            println!("skipped: without_a_gpu_there_is_no_stream (there is one)");
            return;
        }
        assert_eq!(current_stream(0), None);
    }
}
