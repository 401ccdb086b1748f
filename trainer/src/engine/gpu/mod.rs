//! What is special about computing on a GPU: its arithmetic, its determinism, its memory, and the way of batches to it.

pub mod arithmetic;
pub mod device_loader;
mod ffi;
pub mod memory;
pub mod pass_memory;
pub mod upload;
