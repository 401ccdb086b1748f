//! `lift-trainer`: see [`trainer::cli`].

fn main() -> std::process::ExitCode {
    trainer::cli::main()
}
