//! Errors of a data set: those that are found before training, and an image that fails during training.

use super::decode::DecodeError;
use std::path::PathBuf;
use std::sync::Arc;

/// A data set that cannot be used, or an image of it that cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder of the data set cannot be opened or read.
    #[error("cannot read {what} `{}`: {source}", path.display())]
    Open {
        /// The purpose of the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: Arc<std::io::Error>,
    },
    /// A text file of the data set has a line that cannot be used.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
        /// The problem, with the expected and the found value.
        reason: String,
    },
    /// A file of the data set contradicts its format or the rest of the data set.
    #[error("{} `{}`: {reason}", what, path.display())]
    Content {
        /// The purpose of the file.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The problem, with the expected and the found value.
        reason: String,
    },
    /// Settings that contradict each other, independent of a file.
    #[error("{0}")]
    Setting(String),
    /// An image cannot be read or decoded.
    #[error("image `{name}`: {fault}")]
    Image {
        /// Path of the image, or its position in a file.
        name: String,
        /// The problem.
        fault: ImageFault,
    },
    /// A thread that prepares images panicked.
    #[error("a data worker panicked at image `{name}`: {message}; this is a defect of the program")]
    Panicked {
        /// The image that was being processed.
        name: String,
        /// The message of the panic.
        message: String,
    },
}

/// Why an image cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFault {
    /// Its bytes cannot be read.
    #[error("cannot be read ({0})")]
    Read(Arc<std::io::Error>),
    /// Not a regular file: a folder, a named pipe or a device.
    #[error("is not a regular file")]
    NotAFile,
    /// Larger than any supported image; nothing was read.
    #[error("has {size} bytes; at most {} are read", crate::data::source::MAX_FILE_BYTES)]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// Its bytes are not an image.
    #[error(transparent)]
    Decode(DecodeError),
    /// It could not be packed, for a reason that was recorded then.
    #[error("{0}")]
    Recorded(Arc<str>),
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
    /// Whether a single image failed while the data set as a whole is in order. Such an image may be skipped.
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
