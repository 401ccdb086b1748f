//! `make chaos`: faults on real runs. See [`tests::chaos`].

use clap::Parser;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tests::chaos::{ChaosOptions, run};
use tests::interrupts;

/// Injects faults into real runs, resumes them, and compares the results with undisturbed runs.
#[derive(Debug, Parser)]
struct ChaosArguments {
    /// Seed of the random numbers.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of faults that must hit a live run.
    #[arg(long, default_value_t = 200)]
    faults: u64,
    /// Run only this case.
    #[arg(long, value_name = "CASE")]
    only: Option<u64>,
    /// Number of concurrent runs.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Start no new run after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
    /// Plant a bug that must be found: `lost_sample`, `unsynced_byte`, `stale_momentum`.
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
    /// Keep all run folders.
    #[arg(long)]
    keep: bool,
    /// Print the counts as JSON on standard output.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = ChaosArguments::parse();
    if let Err(error) = interrupts::listen() {
        eprintln!("error: cannot install the signal handlers: {error}");
        return ExitCode::from(2);
    }
    let options = ChaosOptions {
        seed: arguments.seed,
        faults: arguments.faults,
        only: arguments.only,
        jobs: arguments.jobs,
        planted: arguments.planted,
        keep: arguments.keep,
        limit: arguments.limit.map(Duration::from_secs),
        verbose: true,
    };
    let start = Instant::now();
    let tally = match run(&options) {
        Ok(tally) => tally,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    if arguments.json {
        println!("{:#}", tally.json(options.seed, start.elapsed().as_secs_f64()));
    } else {
        print!("{}", tally.table());
        println!("{:.0} s, seed {}", start.elapsed().as_secs_f64(), options.seed);
    }
    if interrupts::is_interrupted() {
        return ExitCode::from(130);
    }
    let is_complete = options.only.is_none() && options.planted.is_none();
    let shortfalls = if is_complete { tally.shortfalls(options.faults) } else { Vec::new() };
    for shortfall in &shortfalls {
        eprintln!("error: {shortfall}");
    }
    if tally.is_sound() && shortfalls.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
