//! What can go wrong with a data set, in two kinds: what is found before training, and a picture that fails in it.

use super::decode::DecodeError;
use std::path::PathBuf;
use std::sync::Arc;

/// A data set that cannot be used, or a picture of it that cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder of the data set cannot be opened or read.
    #[error("cannot read {what} `{}`: {source}", path.display())]
    Open {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: Arc<std::io::Error>,
    },
    /// A text file of the data set has a line that cannot be used.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
        /// What is wrong, expected and found.
        reason: String,
    },
    /// A file of the data set contradicts its format or the rest of the data set.
    #[error("{} `{}`: {reason}", what, path.display())]
    Content {
        /// What the file is for.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, expected and found.
        reason: String,
    },
    /// Values that do not go together, without a file to blame.
    #[error("{0}")]
    Setting(String),
    /// A picture cannot be read or decoded.
    #[error("image `{name}`: {fault}")]
    Image {
        /// Path or place of the picture.
        name: String,
        /// What is wrong with it.
        fault: ImageFault,
    },
    /// A thread that prepares pictures panicked.
    #[error("a data worker panicked at image `{name}`: {message}; this is a defect of the program")]
    Panicked {
        /// The picture at hand.
        name: String,
        /// What the panic said.
        message: String,
    },
}

/// Why a picture cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFault {
    /// Its bytes cannot be read.
    #[error("cannot be read ({0})")]
    Read(Arc<std::io::Error>),
    /// It is a folder, a named pipe or a device.
    #[error("is not a regular file")]
    NotAFile,
    /// It has more bytes than an image has; none of them was read.
    #[error("has {size} bytes; at most {} are read", crate::data::source::MAX_FILE_BYTES)]
    TooLarge {
        /// Its bytes.
        size: u64,
    },
    /// Its bytes are not a picture.
    #[error(transparent)]
    Decode(DecodeError),
}

impl From<std::io::Error> for ImageFault {
    fn from(error: std::io::Error) -> Self {
        Self::Read(Arc::new(error))
    }
}

impl From<DecodeError> for ImageFault {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl DataError {
    /// Whether a single picture failed while the data set as a whole is in order. Such a picture may be skipped.
    pub fn is_image_failure(&self) -> bool {
        matches!(self, Self::Image { .. })
    }

    pub(super) fn open(what: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Open { what, path: path.into(), source: Arc::new(source) }
    }

    pub(super) fn line(path: impl Into<PathBuf>, line: usize, reason: impl Into<String>) -> Self {
        Self::Line { path: path.into(), line, reason: reason.into() }
    }

    pub(super) fn content(what: &'static str, path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Content { what, path: path.into(), reason: reason.into() }
    }

    pub(crate) fn image(name: String, fault: impl Into<ImageFault>) -> Self {
        Self::Image { name, fault: fault.into() }
    }
}
