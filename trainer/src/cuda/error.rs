//! Errors of compiling and launching kernels.

/// A kernel that cannot be compiled, loaded or launched.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CompiledError {
    /// A library was not found, or is another one.
    #[error(transparent)]
    Library(#[from] nccl_rs::Error),
    /// NVRTC refuses the source.
    #[error("NVRTC ({library}) does not compile `{program}` for {architecture}: {log}")]
    Source {
        /// The file of NVRTC.
        library: String,
        /// The name of the program.
        program: String,
        /// The GPU's architecture.
        architecture: String,
        /// What the compiler said.
        log: String,
    },
    /// A call of NVRTC fails.
    #[error("{call}: {message} (NVRTC's code {code})")]
    Nvrtc {
        /// Name of the function.
        call: &'static str,
        /// `nvrtcResult`.
        code: i32,
        /// NVRTC's text for the code.
        message: String,
    },
    /// A call of the driver fails.
    #[error("{call}: {message} (the CUDA driver's code {code})")]
    Driver {
        /// Name of the function.
        call: &'static str,
        /// `CUresult`.
        code: i32,
        /// The driver's text for the code.
        message: String,
    },
    /// libtorch has no current stream for the GPU.
    #[error("libtorch has no stream of GPU {index}")]
    Stream {
        /// Number of the GPU.
        index: usize,
    },
}
