//! `make combinations`: laws 1 and 7 on random combinations. See [`combinations`].

use clap::Parser;
use combinations::{CombinationOptions, run};
use nix::sys::resource::{UsageWho, getrusage};
use std::process::ExitCode;
use std::time::Instant;
use tests::harness::run_program;
use tests::interrupts;

/// Draws combinations of tuners, loss, head, initialisation and placements, and compares runs of each on several
/// world sizes and after a resume.
#[derive(Debug, Parser)]
struct CombinationArguments {
    #[command(flatten)]
    options: CombinationOptions,
}

fn main() -> ExitCode {
    let CombinationArguments { options } = CombinationArguments::parse();
    let start = Instant::now();
    let tally = match run_program(|| run(&options)) {
        Ok(tally) => tally,
        Err(code) => return code,
    };
    print!("{}", tally.table());
    println!("{:.0} s, {}seed {}", start.elapsed().as_secs_f64(), cpu_seconds(), options.harness.seed);
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
