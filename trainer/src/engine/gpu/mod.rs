//! What is special about computing on a GPU: its arithmetic, its kernels, its determinism, its memory, its streams and graphs, and
//! uploads to it.

pub mod arithmetic;
pub(in crate::engine) mod attention;
pub mod compiled_kernels;
pub mod cuda_graph;
pub(in crate::engine) mod ffi;
pub mod memory;
pub mod pass_memory;
pub(in crate::engine) mod refusal;
pub(in crate::engine) mod timing;
pub mod upload;
