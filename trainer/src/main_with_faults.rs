//! `lift-trainer` with the feature `faults`: it fails where the environment says so.

#[path = "main.rs"]
mod lift_trainer;

fn main() -> std::process::ExitCode {
    lift_trainer::main()
}
