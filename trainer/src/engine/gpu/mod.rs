//! What is special about computing on a GPU: its arithmetic, its determinism, its memory, its
//! streams and graphs, and uploads to it.

pub mod arithmetic;
pub mod cuda_graph;
pub(in crate::engine) mod ffi;
pub mod memory;
pub mod pass_memory;
pub mod upload;
