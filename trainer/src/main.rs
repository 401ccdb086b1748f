//! `lift-trainer`: see [`trainer::cli`].

#![deny(clippy::print_stdout, clippy::print_stderr)]

fn main() -> std::process::ExitCode {
    trainer::cli::main()
}
