//! Settings and figures of libtorch by the shim in `shim/gpu.cpp`.

use std::ffi::c_int;

unsafe extern "C" {
    fn trainer_allow_tf32(allowed: c_int) -> c_int;
    fn trainer_be_deterministic(on: c_int) -> c_int;
    fn trainer_gpu_memory(index: c_int, figures: *mut i64) -> c_int;
    fn trainer_forget_gpu_peaks(index: c_int) -> c_int;
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

/// Bytes of a GPU: allocated, its peak, held by the allocator, its peak, free, in total.
pub(super) fn gpu_memory(index: usize) -> Option<[i64; 6]> {
    let mut figures = [0; 6];
    // SAFETY: the shim writes six numbers and catches every exception.
    let code = unsafe { trainer_gpu_memory(index as c_int, figures.as_mut_ptr()) };
    (code == 0).then_some(figures)
}

/// Peaks are counted from now on.
pub(super) fn forget_gpu_peaks(index: usize) {
    // SAFETY: takes a number; the shim catches every exception. If it fails, peaks are only too high.
    let _ = unsafe { trainer_forget_gpu_peaks(index as c_int) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_gpu_there_are_no_figures_and_nothing_fails() {
        if tch::utils::has_cuda() {
            println!("skipped: without_a_gpu_there_are_no_figures_and_nothing_fails (there is one)");
            return;
        }
        assert_eq!(gpu_memory(0), None);
        forget_gpu_peaks(0);
    }
}
