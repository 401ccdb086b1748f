//! `make combinations`: laws 1 and 7 on random combinations. See [`combinations`].

use clap::Parser;
use combinations::{CombinationOptions, run};
use nix::sys::resource::{UsageWho, getrusage};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tests::interrupts;

/// Draws combinations of tuners, loss, head, initialisation and placements, and compares runs of each on several
/// world sizes and after a resume.
#[derive(Debug, Parser)]
struct CombinationArguments {
    /// Seed of the random numbers.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of cases.
    #[arg(long, default_value_t = 1000)]
    cases: u64,
    /// The first case.
    #[arg(long, value_name = "CASE", default_value_t = 0)]
    first: u64,
    /// Run only this case.
    #[arg(long, conflicts_with_all = ["first", "cases"])]
    case: Option<u64>,
    /// Number of concurrent cases.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Start no new case after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
    /// Plant a bug that must be found: `lost_sample`, `stale_momentum`, `other_seed`.
    #[arg(long, value_name = "BUG")]
    planted: Option<String>,
    /// Keep all run folders.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let CombinationArguments { seed, first, cases, case, jobs, limit, planted, keep } =
        CombinationArguments::parse();
    if let Err(error) = interrupts::listen() {
        eprintln!("error: cannot install the signal handlers: {error}");
        return ExitCode::from(2);
    }
    let (first, cases) = case.map_or((first, cases), |case| (case, 1));
    let limit = limit.map(Duration::from_secs);
    let start = Instant::now();
    let tally =
        match run(&CombinationOptions { seed, first, cases, jobs, planted, keep, limit, verbose: true }) {
            Ok(tally) => tally,
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::from(2);
            }
        };
    print!("{}", tally.table());
    println!("{:.0} s, {}seed {seed}", start.elapsed().as_secs_f64(), cpu_seconds());
    if interrupts::is_interrupted() {
        return ExitCode::from(130);
    }
    if tally.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// CPU time of the runs.
fn cpu_seconds() -> String {
    let seconds = |usage: nix::sys::resource::Usage| {
        let times = [usage.user_time(), usage.system_time()];
        times.iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum::<f64>()
    };
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
    usage.map(|usage| format!("{:.0} s CPU time, ", seconds(usage))).unwrap_or_default()
}
