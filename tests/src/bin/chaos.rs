//! `make chaos`: faults on real runs. See [`tests::chaos`].

use clap::Parser;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tests::chaos::{ChaosOptions, play};
use tests::interrupts;

/// Kills, stops, starves and damages real runs, resumes them, and compares them with undisturbed ones.
#[derive(Debug, Parser)]
struct ChaosArguments {
    /// Where chance begins.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Faults that are to meet a living run.
    #[arg(long, default_value_t = 200)]
    faults: u64,
    /// Play this case alone.
    #[arg(long, value_name = "CASE")]
    only: Option<u64>,
    /// Runs at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Begin no new run after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
    /// Play a bug that must be found: `lost_sample`, `unsynced_byte`, `stale_momentum`.
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
    /// Keep all run folders.
    #[arg(long)]
    keep: bool,
    /// Counts as JSON on standard output.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = ChaosArguments::parse();
    if let Err(error) = interrupts::listen() {
        eprintln!("error: signals cannot be waited for: {error}");
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
    let begun = Instant::now();
    let tally = match play(&options) {
        Ok(tally) => tally,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    if arguments.json {
        println!("{:#}", tally.json(options.seed, begun.elapsed().as_secs_f64()));
    } else {
        print!("{}", tally.table());
        println!("{:.0} s, seed {}", begun.elapsed().as_secs_f64(), options.seed);
    }
    if interrupts::is_interrupted() {
        return ExitCode::from(130);
    }
    let whole = options.only.is_none() && options.planted.is_none();
    let shortfalls = if whole { tally.shortfalls(options.faults) } else { Vec::new() };
    for shortfall in &shortfalls {
        eprintln!("error: {shortfall}");
    }
    if tally.is_sound() && shortfalls.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
