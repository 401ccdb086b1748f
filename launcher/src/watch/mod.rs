//! `lift watch`: shows a run while it trains, on the terminal or as lines.

mod follow;
mod lines;
mod screen;
mod terminal;

use crate::records::RecordError;
use clap::Args;
use follow::Watched;
use protocol::Outcome;
use protocol::terminal::OutputError;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

/// Options of `lift watch`.
#[derive(Debug, Args)]
pub struct WatchOptions {
    /// Run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Print lines, also on a terminal
    #[arg(long)]
    pub lines: bool,
    /// Seconds between two looks at the run
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub every: u64,
}

/// Why a run cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// A file of the run cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Standard output does not accept a line.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The terminal cannot be used.
    #[error("cannot use the terminal: {0}\nhint: print lines instead, with `--lines`")]
    Terminal(#[source] io::Error),
}

impl WatchError {
    /// The exit code of the error.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Record(_) => Outcome::WrongInput,
            Self::Output(_) | Self::Terminal(_) => Outcome::Failed,
        }
    }
}

/// Shows the run until it ends or the user leaves.
pub fn run(options: &WatchOptions) -> Result<Outcome, WatchError> {
    let mut watched = Watched::open(&options.run)?;
    let interval = Duration::from_secs(options.every);
    if options.lines || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        lines::print(&mut watched, interval)?;
    } else {
        terminal::show(&mut watched, interval)?;
    }
    Ok(Outcome::Done)
}
