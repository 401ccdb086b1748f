//! Checkpoints, written atomically and verified on reading.
//!
//! A checkpoint is a folder `NNNNNNNN`, named by the step it was taken after, with three files:
//!
//! - `tensors.safetensors`: named tensors;
//! - `state.json`: everything else, a value whose type the caller chooses;
//! - `manifest.json`: format, step, metric, size and SHA-256 of the other two, and a checksum of itself.
//!
//! Every changed byte, and every missing, truncated or added file, is therefore detected before any part of the
//! checkpoint is used.
//!
//! # How one is written
//!
//! It is written into `.NNNNNNNN.tmp-PID` in the same parent folder; each file is synced to disk, then the folder, then
//! the folder is renamed and its parent is synced. Only then are older ones removed: they are first renamed to
//! `.NNNNNNNN.del-PID`, so that no partial checkpoint ever has the final name. A process that is killed at any point
//! leaves the new checkpoint or the previous one, and hidden folders that the next [`Store::open`] removes.
//!
//! # Who may do what
//!
//! One process at a time has a [`Store`], under its claim to the run folder; usually a [`CheckpointWriter`] owns it in a separate
//! thread. Any process may use a [`CheckpointReader`] at any time: it changes nothing.

mod disk;
mod error;
#[cfg(any(test, feature = "faults"))]
mod faults;
mod manifest;
mod names;
mod reader;
mod retry;
mod sealed;
mod store;
mod tensors;
mod writer;

pub use error::CheckpointError;
#[cfg(feature = "faults")]
pub(crate) use faults::Planted;
#[cfg(any(test, feature = "faults"))]
pub use faults::{FAULT, FAULT_LOG, PLANTED};
pub use reader::{BestCheckpoint, CheckpointReader, FoundCheckpoint};
pub use safetensors::Dtype;
pub use store::{Retention, Store, WrittenCheckpoint};
pub use tensors::TensorBytes;
pub use writer::{CheckpointWriter, EmergencyWriter, WriterEvent, WriterOptions};

/// The content of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot<S> {
    /// Steps done.
    pub step: u64,
    /// Tensors with unique names. On reading, the widest elements come first, and tensors of one element type keep
    /// their order.
    pub tensors: Vec<TensorBytes>,
    /// Everything else. It must survive a round trip through JSON, which has no NaN and no infinity; otherwise it is
    /// refused.
    pub state: S,
}

#[cfg(test)]
mod tests;
