//! Kernels of our own for a GPU: compiles CUDA C++ at run time with NVRTC, and launches it through the driver.
//!
//! Both libraries are opened when they are needed, so that nothing of CUDA is needed to build or to start. NVRTC comes with
//! PyTorch's wheels for CUDA and with the toolkit, `libcuda` with the driver. The program needs a dozen of their functions,
//! and the search of `nccl-rs`, which finds them beside libtorch.

mod compiler;
mod device;
mod error;
mod libraries;
mod module;

pub use compiler::{Program, compile, compiler_file};
pub use device::Gpu;
pub use error::CompiledError;
pub use module::{Argument, Grid, Kernel, Module};
