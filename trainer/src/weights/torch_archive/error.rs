//! Why a checkpoint is refused.

use crate::pickle::PickleError;
use crate::weights::form::Foreign;
use std::io;
use std::path::PathBuf;

/// A checkpoint that cannot be read: which, and why.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint `{}`: {problem}", path.display())]
pub struct TorchFileError {
    /// The file.
    pub path: PathBuf,
    /// The problem.
    pub problem: TorchFileProblem,
}

/// Why a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TorchFileProblem {
    /// The file does not exist or cannot be opened or read.
    #[error("cannot be read: {0}\nhint: check the path and its permissions")]
    Io(#[from] io::Error),
    /// No bytes.
    #[error("the file is empty\nhint: copy it again")]
    Empty,
    /// Not a zip archive.
    #[error(
        "this is not a zip archive as `torch.save` writes it\nhint: \
         give a `checkpoint.pth.tar` or a safetensors file"
    )]
    NotAnArchive,
    /// A file of another kind.
    #[error("this is {0}")]
    Foreign(Foreign),
    /// The format before `PyTorch` 1.6, or any other pickle.
    #[error(
        "this is a bare pickle, which is not read because it may contain code\nhint: \
         load it with PyTorch 1.6 or later and save it again with `torch.save`"
    )]
    BarePickle,
    /// A `TorchScript` program with weights.
    #[error(
        "this is a TorchScript archive, a program with weights\nhint: use the safetensors file of the same model"
    )]
    TorchScript,
    /// The zip directory or an entry is damaged, or the file is cut short.
    #[error("the archive is damaged or cut short ({reason})\nhint: copy it again")]
    Damaged {
        /// The message of the zip reader.
        reason: String,
    },
    /// An archive that `torch.save` did not write.
    #[error(
        "the archive holds {found} entries `*/data.pkl`, expected one; it was not written by `torch.save`"
    )]
    NoPickle {
        /// The number found.
        found: usize,
    },
    /// An entry that `torch.save` would have stored uncompressed.
    #[error(
        "entry `{entry}` is compressed or encrypted; `torch.save` stores entries as they are\nhint: save it again"
    )]
    Compressed {
        /// Its name.
        entry: String,
    },
    /// Written on a machine with another byte order.
    #[error(
        "the numbers are stored in byte order `{found}`, expected `little`\nhint: save it again on a little-endian machine"
    )]
    ByteOrder {
        /// The byte order as named in the file.
        found: String,
    },
    /// The description of the tensors is refused.
    #[error("{0}; no code in it was run")]
    Pickle(#[from] PickleError),
    /// The pickle does not describe named tensors.
    #[error("{place} is not a dictionary of tensors by name")]
    NotNamed {
        /// Where in the file.
        place: String,
    },
    /// A name that two entries share.
    #[error("tensor `{name}` occurs twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A limit is exceeded.
    #[error("the file asks for more than {limit} {what}, which no checkpoint of this kind needs")]
    Limit {
        /// The limited quantity.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The numbers of a tensor are not in the archive.
    #[error("tensor `{tensor}`: its storage `{key}` is not in the archive\nhint: copy the file again")]
    StorageMissing {
        /// A tensor that needs it.
        tensor: String,
        /// The storage.
        key: String,
    },
    /// The storage is shorter than declared.
    #[error(
        "tensor `{tensor}`: its storage `{key}` has {found} bytes, expected {expected}\nhint: copy the file again"
    )]
    StorageShort {
        /// A tensor that needs it.
        tensor: String,
        /// The storage.
        key: String,
        /// Bytes declared.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// Two tensors declare one storage differently.
    #[error("tensor `{tensor}`: its storage `{key}` was declared with another type or length before")]
    StorageDisagrees {
        /// The second tensor.
        tensor: String,
        /// The storage.
        key: String,
    },
    /// A view that exceeds its storage, or repeats elements of it.
    #[error(
        "tensor `{tensor}`: shape {shape:?} with strides {strides:?} from element {offset} \
         does not fit its storage of {elements} elements"
    )]
    OutOfRange {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its strides.
        strides: Vec<u64>,
        /// Its first element.
        offset: u64,
        /// Elements of the storage.
        elements: u64,
    },
}
