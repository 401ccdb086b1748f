//! `lift`: starts LIFT training.

use clap::{Parser, Subcommand};
use launcher::local::LocalRun;
use launcher::protocol::Outcome;
use std::ffi::OsString;
use std::process::ExitCode;

/// Starts LIFT training on this machine.
#[derive(Debug, Parser)]
#[command(
    name = "lift",
    version,
    after_help = "Examples:\n  lift run -n 2\n  lift run -n 4 -- train -d cifar100_ir100 -m tiny_clip --set data.root=DIR --set model.weights=FILE"
)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start ranks here with mpirun, and wait for them
    Run {
        /// Number of ranks: one per GPU, or per share of the cores
        #[arg(short = 'n', long = "ranks", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        ranks: u32,
        /// Arguments of lift-trainer; none runs the embedded demo
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let Verb::Run { ranks, arguments } = Arguments::parse().command;
    match (LocalRun { ranks: ranks as usize, arguments }).run() {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(Outcome::FAILED)),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(Outcome::WRONG_INPUT)
        }
    }
}
