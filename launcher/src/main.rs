//! `lift`: starts LIFT training.

use clap::{Parser, Subcommand};
use launcher::protocol::Outcome;
use launcher::run::{self, Plan};
use std::process::ExitCode;

/// Starts LIFT training here, on hosts, or on a cluster.
#[derive(Debug, Parser)]
#[command(name = "lift", version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start ranks here or on hosts, watch them, and start them again where that helps
    #[command(after_help = RUN_EXAMPLES)]
    Run(run::Options),
}

const RUN_EXAMPLES: &str = "Examples:
  lift run -n 2                                     the embedded demo on two ranks
  lift run -n 4 -- train -d cifar100_ir100 -m clip_vit_b16 --set data.root=DIR --output runs/cifar
  lift run -n 8 --restarts 5 -- train -d inat2018 ...        go on after a failure, from the newest checkpoint
  lift run --hosts node1:4,node2:4 --restarts 9 --elastic 4 -- train ...   also without one of the hosts

Ctrl-C asks the ranks to save and end; a second one ends them at once. TERM, HUP, USR1 and USR2 ask to save and end
such that the run can be resumed (exit code 75). A run is not started again after wrong input, after Ctrl-C, or when
two restarts in a row gained no step.

Exit codes: 0 done; 1 failed; 2 wrong input; 75 stopped on request, can be resumed; 130 stopped by Ctrl-C.";

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Verb::Run(options) => Plan::new(options).and_then(|plan| run::run(&plan)),
    };
    let outcome = result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        Outcome::WrongInput
    });
    ExitCode::from(outcome.exit_code())
}
