//! Files of tensors: backbones (mapped), and trainable tensors (ours, or official checkpoints).

mod block_names;
pub mod dtype;
pub mod file_map;
mod form;
pub mod host_tensor;
mod layout;
mod named;
mod naming;
pub mod official;
mod open;
pub mod safetensors_map;
pub mod torch_archive;
pub mod torch_pickle;
pub mod trained;

pub use block_names::{BlockNames, Field};
pub use form::Foreign;
pub use layout::normalise;
pub(crate) use named::uploaded;
pub use named::{NamedTensors, TensorReader, TensorsFingerprint, WeightsError, copy_bytes};
pub use naming::{Naming, TensorLayout};
