//! Settings and figures of libtorch by the shim in `shim/gpu.cpp`.

use std::ffi::c_int;

unsafe extern "C" {
    fn trainer_allow_tf32(allowed: c_int) -> c_int;
    fn trainer_be_deterministic(on: c_int) -> c_int;
    fn trainer_gpu_memory(index: c_int, figures: *mut i64) -> c_int;
    fn trainer_free_gpu_memory(index: c_int, bytes: *mut i64) -> c_int;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_gpu_there_are_no_figures() {
        if tch::utils::has_cuda() {
            println!("skipped: without_a_gpu_there_are_no_figures (there is one)");
            return;
        }
        assert_eq!((gpu_memory(0), free_gpu_memory(0)), (None, None));
    }
}
