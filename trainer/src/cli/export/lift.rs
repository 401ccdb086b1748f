//! Format of LIFT's official code: `checkpoint.pth.tar`, as its `Trainer.save_model` writes it.

use crate::engine::failure::Failure;
use crate::weights::host_tensor::HostTensor;
use crate::weights::official::{UnofficialError, aliases, write_checkpoint};
use std::collections::BTreeMap;

/// Encodes the tensors under all names that the official code uses for them.
pub(super) fn encode(tensors: &BTreeMap<String, HostTensor>) -> Result<Vec<u8>, Failure> {
    let shapes = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()));
    write_checkpoint(tensors, &aliases(shapes)).map_err(|error| match error {
        UnofficialError::Write(error) => Failure::run(error),
        _ => Failure::input(format!("the run cannot be written with --format lift: {error}")),
    })
}
