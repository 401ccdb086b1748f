#![doc = include_str!("../README.md")]

mod communicator;
mod error;
mod ffi;
mod library;
mod runtime;
mod search;
mod values;

pub use communicator::Communicator;
pub use error::Error;
pub use library::Library;
pub use runtime::{Event, Runtime, Stream};
pub use values::{DataType, ReduceOp, UniqueId, Version};
