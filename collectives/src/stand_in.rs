//! Whether libtorch's CUDA part is the stand-in of the tests.

use nix::libc;

/// The symbol that tells it.
const CUDA: &std::ffi::CStr = c"cuda_stand_in";

/// Whether "CUDA" is host memory: then NCCL must be a stand-in too, and no figure is one of a GPU.
pub fn cuda_is_stand_in() -> bool {
    // SAFETY: looks a name up among the libraries that are loaded, and calls nothing.
    !unsafe { libc::dlsym(libc::RTLD_DEFAULT, CUDA.as_ptr()) }.is_null()
}
