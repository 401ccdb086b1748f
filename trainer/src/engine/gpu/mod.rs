//! What is special about computing on a GPU: its arithmetic, its determinism and its memory.

pub mod arithmetic;
mod ffi;
pub mod memory;
pub mod pass_memory;
