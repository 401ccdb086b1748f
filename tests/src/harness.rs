//! What the harnesses of random cases have in common: their options, as flags and as fields.

use clap::Args;
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

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}
