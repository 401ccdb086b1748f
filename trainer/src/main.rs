//! `lift-trainer`: see [`trainer::cli`].

#![deny(clippy::print_stdout, clippy::print_stderr)]

#[global_allocator]
static ALLOCATOR: trainer::engine::panics::RecordingAllocator = trainer::engine::panics::RecordingAllocator;

#[used]
#[unsafe(link_section = ".preinit_array")]
static BEFORE_LIBRARIES: extern "C" fn() = trainer::cli::refuse_deleted_folder;

/// Entry point, shared with the fault-injection binary.
pub fn main() -> std::process::ExitCode {
    trainer::cli::main()
}
