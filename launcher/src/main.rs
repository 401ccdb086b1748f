//! `lift`: starts LIFT training.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use clap::{Parser, Subcommand};
use launcher::limits;
use launcher::run::{self, Plan};
use launcher::slurm::{self, Job, SlurmError};
use protocol::terminal::{self, OutputError, Reader, say};
use protocol::{Outcome, current_folder};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

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
    /// Send a training job to Slurm
    #[command(after_help = SUBMIT_EXAMPLES)]
    Submit {
        /// What to ask for
        #[command(flatten)]
        job: Job,
        /// Print the job as a line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the batch script that `lift submit` would send
    #[command(after_help = SUBMIT_EXAMPLES)]
    Render(Job),
    /// Run the ranks of a job inside its allocation, and put it back into the queue where that helps; batch scripts end in it
    #[command(after_help = JOB_EXAMPLES)]
    Job(slurm::batch::Options),
    /// Show where jobs and runs stand
    #[command(
        after_help = "Examples:\n  lift status            the newest jobs\n  lift status 4711       one job\n  lift status runs/x     a run, also one without a job"
    )]
    Status {
        /// Jobs or run folders [default: the newest jobs]
        #[arg(value_name = "JOB|RUN")]
        names: Vec<String>,
        /// Print a line of JSON for each
        #[arg(long)]
        json: bool,
    },
    /// End a job for good: asks its ranks to save first
    #[command(
        after_help = "Examples:\n  lift cancel 4711           save, then end\n  lift cancel --now 4711     end\n  lift cancel 4711_3         one task of an array"
    )]
    Cancel {
        /// The job, or its run folder
        #[arg(value_name = "JOB|RUN")]
        name: String,
        /// Do not wait for a save
        #[arg(long)]
        now: bool,
        /// Seconds that ranks have to save
        #[arg(long, default_value_t = 60, conflicts_with = "now", value_parser = grace())]
        grace: u32,
    },
    /// Print what a job printed, or what a rank did
    #[command(
        after_help = "Examples:\n  lift logs -f 4711            what the job prints, until it ends\n  lift logs -f 4711_3          the same of task 3 of an array\n  lift logs --rank 3 runs/x    what rank 3 did"
    )]
    Logs {
        /// The job or the run folder
        #[arg(value_name = "JOB|RUN")]
        name: String,
        /// Go on until the job ends, or the run that has none; waits for a job that has not begun
        #[arg(long, short)]
        follow: bool,
        /// The log of this rank
        #[arg(long)]
        rank: Option<usize>,
    },
}

const RUN_EXAMPLES: &str = "Examples:
  lift run -n 2                                     the embedded demo on two ranks
  lift run -n 4 -- train -d cifar100_ir100 -m clip_vit_b16 --set data.root=DIR --output runs/cifar
  lift run -n 8 --restarts 5 -- train -d inat2018 ...        go on after a failure, from the newest checkpoint
  lift run --hosts node1:4,node2:4 --restarts 9 --elastic 4 -- train ...   also without one of the hosts

Ctrl-C asks the ranks to save and end; a second one ends them at once. TERM, HUP, USR1 and USR2 ask to save and end
such that the run can be resumed (exit code 75). A run is not started again after wrong input, after Ctrl-C, or when
two starts in a row gained no checkpoint. A start counts as failed when a signal has stopped one of its processes for 10 s;
stopping lift together with its ranks does no harm.

Exit codes: 0 done; 1 failed; 2 wrong input; 75 stopped on request, can be resumed; 130 stopped by Ctrl-C.";

const SUBMIT_EXAMPLES: &str = "Examples:
  lift submit --nodes 2 --ranks-per-node 4 --time 1:00:00          the embedded demo on eight ranks
  lift submit --nodes 4 --gpus-per-node 8 --partition gpu --time 8:00:00 -- train -d inat2018 ... --output runs/inat
  lift submit --gpus-per-node 1 --array 0-4 -- train -d cifar100_ir100 ... --set train.seed=%a

The job saves before its time is up, goes back into the queue, and goes on from its newest checkpoint.";

const JOB_EXAMPLES: &str = "Examples, as the last line of a batch script:
  exec lift job -- train -d inat2018 ... --output runs/inat
  exec lift job --sweep sweep.txt --        task N of an array takes line N of the file

Environment: LIFT_TRAINER, LIFT_CONTAINER, LIFT_RANKS_PER_NODE, LIFT_MAX_RESTARTS, LIFT_HANG_SECONDS; see slurm/README.md.

Exit codes: 0 done; 1 failed; 2 wrong input; 75 stopped on request, can be resumed; 130 interrupted.";

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => return ExitCode::from(terminal::answer(&usage).exit_code()),
    };
    let outcome = act(arguments.command).unwrap_or_else(|error| {
        say(format_args!("error: {error}"));
        error.outcome()
    });
    ExitCode::from(outcome.exit_code())
}

fn grace() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(..=i64::from(limits::WAIT_SECONDS))
}

fn act(verb: Verb) -> Result<Outcome, SlurmError> {
    let here = current_folder()?;
    match verb {
        Verb::Run(options) => Plan::new(options).and_then(|plan| run::run(&plan)).map_err(SlurmError::from),
        Verb::Submit { job, json } => slurm::submit::submit(&job, &here, json).map(|()| Outcome::Done),
        Verb::Render(job) => render(&job, &here),
        Verb::Job(options) => slurm::batch::run(&options),
        Verb::Status { names, json } => status(&names, json),
        Verb::Cancel { name, now, grace } => {
            let grace = (!now).then(|| Duration::from_secs(grace.into()));
            done(terminal::print(&format!("{}\n", slurm::cancel::cancel(&name, grace)?)))
        }
        Verb::Logs { name, follow, rank } => slurm::logs::print(&name, rank, follow).map(|()| Outcome::Done),
    }
}

fn render(job: &Job, here: &Path) -> Result<Outcome, SlurmError> {
    // As it is: it is to be run.
    done(terminal::print_as_is(&slurm::render::render(job, here)?.text))
}

fn status(names: &[String], json: bool) -> Result<Outcome, SlurmError> {
    let rows = slurm::status::rows(names)?;
    done(if json {
        let lines: Vec<String> = rows.iter().map(|row| serde_json::json!(row).to_string() + "\n").collect();
        terminal::print_json(&lines.concat())
    } else {
        terminal::print(&slurm::status::table(&rows))
    })
}

/// A reader that leaves early is no failure.
fn done(printed: Result<Reader, OutputError>) -> Result<Outcome, SlurmError> {
    printed?;
    Ok(Outcome::Done)
}
