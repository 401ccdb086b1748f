//! Files of tensors: backbones (safetensors, mapped), and trainable tensors (ours, or official checkpoints).

pub mod dtype;
pub mod host_tensor;
mod layout;
mod named;
pub mod pickle;
pub mod safetensors_map;
pub mod torch_archive;
pub mod trained;

pub use layout::{Layout, normalise};
pub use named::{NamedTensors, Reader, TensorsFingerprint, WeightsError, copy_bytes};
