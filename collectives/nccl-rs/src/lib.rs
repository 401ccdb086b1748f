#![doc = include_str!("../README.md")]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod communicator;
mod device;
mod error;
mod ffi;
mod library;
mod runtime;
mod search;
mod values;

pub use communicator::Communicator;
pub use device::{CudaVersion, DeviceIdentity};
pub use error::Error;
pub use library::Library;
pub use runtime::{CudaEvent, CudaRuntime, CudaStream};
pub use search::{LibraryRequest, LoadedLibrary};
pub use values::{DataType, RedOp, UniqueId, Version};
