//! `make combinations`: laws 1 and 7 on random combinations. See [`combinations`].

use clap::Parser;
use combinations::{CombinationOptions, play};
use nix::sys::resource::{UsageWho, getrusage};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tests::interrupts;

/// Draws combinations of tuners, loss, head, start and placements, and compares runs of each on several worlds and resumed.
#[derive(Debug, Parser)]
struct CombinationArguments {
    /// Where chance begins.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of cases.
    #[arg(long, default_value_t = 1000)]
    cases: u64,
    /// The first case.
    #[arg(long, value_name = "CASE", default_value_t = 0)]
    first: u64,
    /// Play this case alone.
    #[arg(long, conflicts_with_all = ["first", "cases"])]
    case: Option<u64>,
    /// Cases at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Begin no new case after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
    /// Play a bug that must be found: `lost_sample`, `stale_momentum`, `other_seed`.
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
        eprintln!("error: signals cannot be waited for: {error}");
        return ExitCode::from(2);
    }
    let (first, cases) = case.map_or((first, cases), |case| (case, 1));
    let limit = limit.map(Duration::from_secs);
    let begun = Instant::now();
    let tally =
        match play(&CombinationOptions { seed, first, cases, jobs, planted, keep, limit, verbose: true }) {
            Ok(tally) => tally,
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::from(2);
            }
        };
    print!("{}", tally.table());
    println!("{:.0} s, {}seed {seed}", begun.elapsed().as_secs_f64(), cpu_seconds());
    if interrupts::is_interrupted() {
        return ExitCode::from(130);
    }
    if tally.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the runs took of the cores.
fn cpu_seconds() -> String {
    let seconds = |usage: nix::sys::resource::Usage| {
        let times = [usage.user_time(), usage.system_time()];
        times.iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum::<f64>()
    };
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
    usage.map(|usage| format!("{:.0} s of a core, ", seconds(usage))).unwrap_or_default()
}
