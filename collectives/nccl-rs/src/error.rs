//! Errors of loading and calling NCCL and CUDA.

use std::path::PathBuf;
use std::time::Duration;

/// A library that does not load, or a call that fails.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The library is in none of the usual places.
    #[error("{library} was not found; looked for {}\nhint: {remedy}, or let {variable} name its file", places.join(", "))]
    NotFound {
        /// Name of the library, e.g. `NCCL`.
        library: &'static str,
        /// Environment variable for the path of the library.
        variable: &'static str,
        /// The places that were searched, each with its error.
        places: Vec<String>,
        /// The remedy.
        remedy: &'static str,
    },
    /// The file in an environment variable does not load.
    #[error("{variable} names {}, which does not load as {library}: {message}", path.display())]
    Load {
        /// Name of the library.
        library: &'static str,
        /// Environment variable for the path of the library.
        variable: &'static str,
        /// The path in the variable.
        path: PathBuf,
        /// The error text of the loader.
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
    /// The version of NCCL is too old.
    #[error("{library} is NCCL {found}, but {needed} or newer is needed{}", purpose.map(|p| format!(" for {p}")).unwrap_or_default())]
    TooOld {
        /// The library's file.
        library: String,
        /// Its version.
        found: String,
        /// The oldest supported version.
        needed: &'static str,
        /// The function that needs this version, if it is not needed in general.
        purpose: Option<&'static str>,
    },
    /// NCCL returned an error code.
    #[error("{call}: {message} (NCCL's code {code})")]
    Nccl {
        /// Name of the function.
        call: &'static str,
        /// `ncclResult_t`.
        code: i32,
        /// NCCL's text for the code, and its last error if there is one.
        message: String,
    },
    /// The CUDA runtime or driver returned an error code.
    #[error("{call}: {message} (CUDA's code {code})")]
    Cuda {
        /// Name of the function.
        call: &'static str,
        /// `cudaError_t` or `CUresult`.
        code: i32,
        /// CUDA's text for the code.
        message: String,
    },
    /// A call exceeded its timeout.
    #[error("{call} did not end within {:.1} s", timeout.as_secs_f64())]
    TimedOut {
        /// Name of the function.
        call: &'static str,
        /// The timeout.
        timeout: Duration,
    },
    /// The communicator was aborted before or during the call.
    #[error("{call}: the communicator was aborted")]
    Aborted {
        /// Name of the function.
        call: &'static str,
    },
    /// An argument that does not fit into the C type.
    #[error("{call}: {what} is {found}, expected {expected}")]
    Argument {
        /// Name of the function.
        call: &'static str,
        /// The argument.
        what: &'static str,
        /// The supported values.
        expected: String,
        /// The value.
        found: String,
    },
}

impl Error {
    /// Whether this is a timeout, which another rank often causes.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }
}
