//! What the harnesses of random cases have in common: their options, as flags and as fields.

use crate::interrupts;
use clap::Args;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

/// Options of every harness.
#[derive(Clone, Debug, Args)]
pub struct HarnessOptions {
    /// Seed of the random numbers.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Number of concurrent cases.
    #[arg(long, default_value_t = 2)]
    pub jobs: usize,
    /// Start no new case after this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub limit: Option<Duration>,
    /// Plant a bug that must be found, and stop after the first problem.
    #[arg(long, value_name = "BUG")]
    pub planted: Option<String>,
    /// Keep all files, even without problems.
    #[arg(long)]
    pub keep: bool,
    /// Report the end of each case; a program does, a test does not.
    #[arg(skip = true)]
    pub verbose: bool,
}

impl HarnessOptions {
    /// Options of a test: so many concurrent cases, and no output.
    pub fn quiet(jobs: usize) -> Self {
        Self { seed: 0, jobs, limit: None, planted: None, keep: false, verbose: false }
    }
}

/// Runs a harness as a program: Ctrl-C ends it between cases. The exit code of an error that is not a finding is 2.
pub fn run_program<T>(run: impl FnOnce() -> io::Result<T>) -> Result<T, ExitCode> {
    let result = interrupts::listen()
        .map_err(|error| format!("cannot install the signal handlers: {error}"))
        .and_then(|()| run().map_err(|error| error.to_string()));
    result.map_err(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}
