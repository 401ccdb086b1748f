//! The part of the trainer's command line that the launcher also reads.

use clap::Args;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Output options.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArguments {
    /// Print the result as JSON to stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only warnings, errors and the result
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// Data, model and method.
#[derive(Debug, Clone, Args)]
pub struct SelectionArguments {
    /// Data preset, or the path of a .toml file
    #[arg(short, long, default_value = "demo")]
    pub data: String,
    /// Model preset, or the path of a .toml file
    #[arg(short, long, default_value = "demo")]
    pub model: String,
    /// Method preset, or the path of a .toml file
    #[arg(long, default_value = "lift")]
    pub method: String,
    /// Set one configuration value; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// Arguments of `train`.
#[derive(Debug, Args)]
pub struct TrainArguments {
    /// What to train
    #[command(flatten)]
    pub select: SelectionArguments,
    /// Run folder [default: runs/DATA-MODEL-METHOD-seedN]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Checkpoint to resume from: `auto` uses the newest checkpoint in the run folder, if there is one; PATH is a run
    /// folder or a checkpoint folder; `never` does not resume [default: auto in a restarted job, else never]
    #[arg(long, value_name = "auto|PATH|never")]
    pub resume: Option<String>,
    /// Key whose value may differ from the resumed run; may be repeated
    #[arg(long, value_name = "SECTION.KEY", value_delimiter = ',')]
    pub allow_changed: Vec<String>,
    /// Write the predicted class of each evaluated image to FILE, one per line
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
}

/// The sub-command that trains.
pub const TRAIN: &str = "train";

/// The typed arguments with an explicit sub-command: options without one belong to [`TRAIN`].
pub fn with_verb(mut typed: Vec<OsString>) -> Vec<OsString> {
    const OF_EVERY_COMMAND: [&str; 3] = ["--json", "--quiet", "-q"];
    const ANSWERED: [&str; 4] = ["--help", "-h", "--version", "-V"];
    let is_one_of = |word: &OsStr, list: &[&str]| list.iter().any(|known| word == *known);
    let first = typed.iter().find(|word| !is_one_of(word, &OF_EVERY_COMMAND));
    if first.is_some_and(|word| word.as_encoded_bytes().starts_with(b"-") && !is_one_of(word, &ANSWERED)) {
        typed.insert(0, TRAIN.into());
    }
    typed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_alone_are_those_of_train() {
        for (typed, named) in [
            ("-d demo -m demo", "train -d demo -m demo"),
            ("--json --set a.b=1", "train --json --set a.b=1"),
            ("-qd demo", "train -qd demo"),
            ("", ""),
            ("--json", "--json"),
            ("--help", "--help"),
            ("-q eval --run x", "-q eval --run x"),
            ("train -d x", "train -d x"),
        ] {
            let words = typed.split_whitespace().map(OsString::from).collect();
            assert_eq!(with_verb(words), named.split_whitespace().collect::<Vec<_>>(), "{typed}");
        }
    }
}
