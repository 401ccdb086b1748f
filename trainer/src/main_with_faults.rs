//! `lift-trainer` with the feature `faults`: it fails where the environment says so.

#![deny(clippy::print_stdout, clippy::print_stderr)]

fn main() -> std::process::ExitCode {
    trainer::cli::main()
}
