//! `lift-trainer` with the feature `faults`: it fails where the environment says so.

fn main() -> std::process::ExitCode {
    trainer::cli::main()
}
