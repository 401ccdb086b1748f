//! `make chaos`: faults on real runs. See [`tests::chaos`].

use clap::Parser;
use std::process::ExitCode;
use std::time::Instant;
use tests::chaos::{ChaosOptions, run};
use tests::harness::run_program;
use tests::interrupts;

/// Injects faults into real runs, resumes them, and compares the results with undisturbed runs.
#[derive(Debug, Parser)]
struct ChaosArguments {
    #[command(flatten)]
    options: ChaosOptions,
    /// Print the counts as JSON on standard output.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let ChaosArguments { options, json } = ChaosArguments::parse();
    let start = Instant::now();
    let tally = match run_program(|| run(&options)) {
        Ok(tally) => tally,
        Err(code) => return code,
    };
    if json {
        println!("{:#}", tally.json(options.harness.seed, start.elapsed().as_secs_f64()));
    } else {
        print!("{}", tally.table());
        println!("{:.0} s, seed {}", start.elapsed().as_secs_f64(), options.harness.seed);
    }
    if interrupts::is_interrupted() {
        return ExitCode::from(130);
    }
    let is_complete = options.only.is_none() && options.harness.planted.is_none();
    let shortfalls = if is_complete { tally.shortfalls(options.faults) } else { Vec::new() };
    for shortfall in &shortfalls {
        eprintln!("error: {shortfall}");
    }
    if tally.is_sound() && shortfalls.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
