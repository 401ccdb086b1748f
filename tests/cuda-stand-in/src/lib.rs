//! A stand-in for libtorch's CUDA part, on host memory: NOT CUDA, NOT for training.
//!
//! Put it beside the other libraries of libtorch under the name `libtorch_cuda.so`, and `lift-trainer` computes on a
//! device of the type CUDA, whose memory is the host's and whose work the CPU does. `README.md` says what this proves, and
//! what it cannot. The parts in `cpp` register with libtorch when the library is loaded.
//!
//! A figure measured with it says nothing about a GPU.

mod graphs;

use std::ffi::{c_char, c_int, c_void};

type Run = unsafe extern "C" fn(*const c_void);
type Free = unsafe extern "C" fn(*mut c_void);

unsafe extern "C" {
    fn cuda_stand_in_launch(name: *const c_char, run: Run, free: Free, work: *mut c_void);
}

/// Tells programs what they talk to.
#[unsafe(no_mangle)]
extern "C" fn cuda_stand_in() -> c_int {
    1
}

/// A kernel of the program's own, launched by `tests/nvrtc-stand-in`: it comes after earlier work, and is counted. Under capture
/// it is recorded.
///
/// # Safety
/// `name` must point to a null-terminated text. `run` must be able to run `work`, several times and on any thread, until `free` has
/// freed it.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuda_stand_in_kernel(name: *const c_char, run: Run, free: Free, work: *mut c_void) {
    // SAFETY: guaranteed by the caller.
    unsafe { cuda_stand_in_launch(name, run, free, work) }
}
