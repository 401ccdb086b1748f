//! Checkpoints: bytes in, bytes out, whole or not at all.
//!
//! A checkpoint is a folder `NNNNNNNN`, named by the step it was taken after, with three files:
//!
//! - `tensors.safetensors`: named tensors;
//! - `state.json`: everything else, a value whose type the caller chooses;
//! - `manifest.json`: format, step, metric, size and SHA-256 of the other two, and a checksum of itself.
//!
//! So every changed byte, and every missing, cut or added file, is found before anything of the checkpoint is used.
//!
//! # How one is written
//!
//! Into `.NNNNNNNN.tmp-PID` beside its place; each file is forced to disk, then the folder, then it is renamed into its
//! place and the folder above is forced to disk. Only then are older ones removed: renamed to `.NNNNNNNN.del-PID`
//! first, so that no half of one is ever seen under its name. A process that is killed anywhere on this way leaves the
//! new checkpoint or the one before it, and hidden folders that the next [`Store::open`] removes.
//!
//! # Who may do what
//!
//! One process at a time has a [`Store`], under its claim to the run folder; usually a [`Writer`] holds it in a thread of
//! its own. Anybody may have a [`Reader`] at any time: it changes nothing.

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

/// What a checkpoint holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot<S> {
    /// Steps done.
    pub step: u64,
    /// Tensors, each with a name of its own. They come back with the widest elements first and otherwise in the
    /// order given, so those of one element type keep their order.
    pub tensors: Vec<TensorBytes>,
    /// Everything else. It must survive JSON, which knows no NaN and no infinity; one that does not is refused.
    pub state: S,
}

#[cfg(test)]
mod tests;
