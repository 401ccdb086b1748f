//! What can go wrong between a program and NCCL.

use std::path::PathBuf;
use std::time::Duration;

/// A library that was not found, or a call that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No library was found at any of the places where it usually lies.
    #[error("{library} was not found; looked for {}\nhint: {remedy}, or let {variable} name its file", places.join(", "))]
    NotFound {
        /// What was looked for, e.g. `NCCL`.
        library: &'static str,
        /// Variable that names the file.
        variable: &'static str,
        /// Every place, with what was wrong there.
        places: Vec<String>,
        /// Where to get it.
        remedy: &'static str,
    },
    /// The file that a variable names does not load.
    #[error("{variable} names {}, which does not load as {library}: {message}", path.display())]
    Load {
        /// What was to be loaded.
        library: &'static str,
        /// Variable that names the file.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// The loader's own words.
        message: String,
    },
    /// A library lacks a function.
    #[error("{library} lacks {symbol}; it is another library, or too old")]
    Symbol {
        /// The library's file.
        library: String,
        /// The function's name.
        symbol: &'static str,
    },
    /// NCCL is older than what is needed.
    #[error("{library} is NCCL {found}, but {needed} or newer is needed{}", purpose.map(|p| format!(" for {p}")).unwrap_or_default())]
    TooOld {
        /// The library's file.
        library: String,
        /// Its version.
        found: String,
        /// The oldest one that would do.
        needed: &'static str,
        /// What it is needed for, if not for everything.
        purpose: Option<&'static str>,
    },
    /// NCCL answered with an error code.
    #[error("{call}: {message} (NCCL's code {code})")]
    Nccl {
        /// Name of the function.
        call: &'static str,
        /// `ncclResult_t`.
        code: i32,
        /// NCCL's text for the code, and its last error where it tells one.
        message: String,
    },
    /// The CUDA runtime or driver answered with an error code.
    #[error("{call}: {message} (CUDA's code {code})")]
    Cuda {
        /// Name of the function.
        call: &'static str,
        /// `cudaError_t` or `CUresult`.
        code: i32,
        /// CUDA's text for the code.
        message: String,
    },
    /// A call went on for longer than it may.
    #[error("{call} did not end within {:.1} s", timeout.as_secs_f64())]
    TimedOut {
        /// Name of the function.
        call: &'static str,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// The communicator was aborted before or during the call.
    #[error("{call}: the communicator was aborted")]
    Aborted {
        /// Name of the function.
        call: &'static str,
    },
    /// A value that cannot be passed on.
    #[error("{call}: {what} is {found}, expected {expected}")]
    Argument {
        /// Name of the function.
        call: &'static str,
        /// The argument.
        what: &'static str,
        /// What it may be.
        expected: String,
        /// What it was.
        found: String,
    },
}

impl Error {
    /// Whether time ran out, which often means that the fault is another rank's.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }
}
