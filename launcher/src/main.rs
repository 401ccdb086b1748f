//! `lift`: starts LIFT training.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use clap::{CommandFactory, Parser, Subcommand};
use launcher::doctor;
use launcher::gpu_check::{self, GpuCheckError, GpuCheckOptions};
use launcher::init_data;
use launcher::limits;
use launcher::log_export::{self, LogExportError, LogExportOptions};
use launcher::report::{self, ReportError, ReportOptions};
use launcher::run::{self, LaunchPlan};
use launcher::slurm::{self, JobOptions, SlurmError};
use launcher::watch::{self, WatchError, WatchOptions};
use protocol::shell::{self, CompletionOptions, ManOptions};
use protocol::terminal::{self, OutputError, OutputReader, say};
use protocol::{Outcome, current_folder};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Start LIFT training on this machine, on several hosts or on a Slurm cluster.
#[derive(Debug, Parser)]
#[command(name = "lift", version, after_help = WHEN_IT_FAILS)]
struct Arguments {
    #[command(subcommand)]
    command: LiftCommand,
}

#[derive(Debug, Subcommand)]
enum LiftCommand {
    /// Start, monitor and restart ranks on this machine or on several hosts
    #[command(after_help = RUN_EXAMPLES)]
    Run(run::RunOptions),
    /// Examine this machine: what a run would use, what is wrong, and what to do about it
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(doctor::DoctorOptions),
    /// Make one probe of `lift doctor`
    #[command(subcommand, hide = true)]
    Probe(doctor::ProbeCommand),
    /// Read a folder of own pictures, show what is in it, divide it into training and test, and write a preset
    #[command(disable_help_flag = true)]
    InitData {
        /// Arguments of `lift-trainer init-data`
        #[arg(value_name = "DIR", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Submit a training job to Slurm
    #[command(after_help = SUBMIT_EXAMPLES)]
    Submit {
        /// Resources of the job
        #[command(flatten)]
        job: JobOptions,
        /// Print the job as one line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the batch script that `lift submit` would submit
    #[command(after_help = SUBMIT_EXAMPLES)]
    Render(JobOptions),
    /// Run the ranks of a job inside its allocation, and requeue the job if that helps; batch scripts end in it
    #[command(after_help = JOB_EXAMPLES)]
    Job(slurm::batch::Options),
    /// Show the state of jobs and runs
    #[command(
        after_help = "Examples:\n  lift status            the newest jobs\n  lift status 4711       one job\n  lift status runs/x     a run, with or without a job"
    )]
    Status {
        /// Jobs or run folders [default: the newest jobs]
        #[arg(value_name = "JOB|RUN")]
        names: Vec<String>,
        /// Print one line of JSON per job or run
        #[arg(long)]
        json: bool,
    },
    /// Stop a job permanently, after its ranks have saved a checkpoint
    #[command(
        after_help = "Examples:\n  lift cancel 4711           save, then stop\n  lift cancel --now 4711     stop at once\n  lift cancel 4711_3         one task of an array"
    )]
    Cancel {
        /// Job, or its run folder
        #[arg(value_name = "JOB|RUN")]
        name: String,
        /// Do not wait for a checkpoint
        #[arg(long)]
        now: bool,
        /// Seconds that the ranks have to save a checkpoint
        #[arg(long, default_value_t = 60, conflicts_with = "now", value_parser = grace())]
        grace: u32,
    },
    /// Print the output of a job or the log of a rank
    #[command(
        after_help = "Examples:\n  lift logs -f 4711            output of the job, until it ends\n  lift logs -f 4711_3          output of task 3 of an array\n  lift logs --rank 3 runs/x    log of rank 3"
    )]
    Logs {
        /// Job or run folder
        #[arg(value_name = "JOB|RUN")]
        name: String,
        /// Print until the job ends, or the run if it has no job; waits for a job that has not started
        #[arg(long, short)]
        follow: bool,
        /// Print the log of this rank
        #[arg(long)]
        rank: Option<usize>,
    },
    /// Show a run while it trains: loss, groups, speed, waiting for data, and the last word of each rank
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(WatchOptions),
    /// Write a report about runs: accuracy by class size, confusion, calibration, curves, and differences between settings
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportOptions),
    /// Export the metrics of a run to TensorBoard, CSV or MLflow, e.g. on a node with a network after the run
    #[command(after_help = LOG_EXPORT_EXAMPLES)]
    LogExport(LogExportOptions),
    /// Check the programs on this machine's GPU, beside PyTorch; without a GPU, on the CPU at small sizes
    #[command(after_help = GPU_CHECK_EXAMPLES)]
    GpuCheck(GpuCheckOptions),
    /// Print the script with which a shell completes the words of `lift`
    #[command(after_help = shell::completion_examples("lift"))]
    Completions(CompletionOptions),
    /// Write man pages of `lift` and its commands
    Man(ManOptions),
}

const WHEN_IT_FAILS: &str =
    "If a run does not start or is slow, `lift doctor` names the reason and the remedy.";

const DOCTOR_EXAMPLES: &str = "Examples:
  lift doctor                                   this machine, with runs in `runs`
  lift doctor --output /scratch/me --data DIR   with the file systems of a run
  srun -N 1 lift doctor                         a node of the cluster
  lift doctor --json                            for scripts: `ready`, `findings`, `run`, `facts`

It changes nothing and takes less than five seconds.

Exit codes: 0 training can start, perhaps with warnings; 2 it cannot.";

const RUN_EXAMPLES: &str = "Examples:
  lift run -n 2                                     the embedded demo on two ranks
  lift run -n 4 -- train -d cifar100_ir100 -m clip_vit_b16 --set data.root=DIR --output runs/cifar
  lift run -n 8 --restarts 5 -- train -d inat2018 ...        resume after a failure
  lift run --hosts node1:4,node2:4 --restarts 9 --elastic 4 -- train ...   continue without one host

Ctrl-C asks the ranks to save and stop; a second Ctrl-C stops them at once. TERM, HUP, USR1 and USR2 ask \
the ranks to save and stop with exit code 75, so that the run can be resumed. A run is not restarted after \
wrong input, after Ctrl-C, or when two starts in a row gained no checkpoint. A start fails if a signal has \
suspended one of its processes for longer than --stopped-seconds; suspending lift together with its ranks does no harm.

Exit codes: 0 done; 1 failed; 2 wrong input; 75 stopped on request, resumable; 130 stopped by Ctrl-C.";

const SUBMIT_EXAMPLES: &str = "Examples:
  lift submit --nodes 2 --ranks-per-node 4 --time 1:00:00          the embedded demo on eight ranks
  lift submit --nodes 4 --gpus-per-node 8 --partition gpu --time 8:00:00 \\
      -- train -d inat2018 ... --output runs/inat
  lift submit --gpus-per-node 1 --array 0-4 -- train -d cifar100_ir100 ... --set train.seed=%a

The job saves a checkpoint before its time limit, is requeued, and resumes from that checkpoint.";

const JOB_EXAMPLES: &str = "Examples, as the last line of a batch script:
  exec lift job -- train -d inat2018 ... --output runs/inat
  exec lift job --sweep sweep.txt --        task N of an array takes line N of the file

Environment: LIFT_TRAINER, LIFT_CONTAINER, LIFT_RANKS_PER_NODE, LIFT_MAX_RESTARTS, LIFT_HANG_SECONDS; see slurm/README.md.

Exit codes: 0 done; 1 failed; 2 wrong input; 75 stopped on request, can be resumed; 130 interrupted.";

const WATCH_EXAMPLES: &str = "Examples:
  lift watch runs/a                  on the whole terminal; q leaves
  lift watch runs/a | tee log        as lines, because the output is no terminal
  lift watch --lines --every 30 runs/a

It ends when the run does, and waits for a preempted run to resume.";

const REPORT_EXAMPLES: &str = "Examples:
  lift report runs/a                              writes runs/a/report.html
  lift report runs/lift-* runs/full-*             compares settings over their seeds: report.html
  lift report --thumbnails runs/a                 with pictures of mistakes (eval.thumbnails)
  lift report --format latex runs/a > tables.tex  the tables for a paper

It reads the run folders only: no images, no network. docs/report.md explains each part.

Exit codes: 0 done; 1 the report cannot be written; 2 a folder is not that of a run.";

const LOG_EXPORT_EXAMPLES: &str = "Examples:
  lift log-export runs/a --to tensorboard          then tensorboard --logdir runs
  lift log-export runs/a --to csv --output tables
  lift log-export runs/a --to mlflow               then MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri mlruns

Lines of metrics have no times. Those of the export are computed back from the end of the run.";

const GPU_CHECK_EXAMPLES: &str = "Examples:
  lift gpu-check                                  every part, in less than eight minutes
  lift gpu-check --only speed memory              speed and memory only
  lift gpu-check --json --output runs/check       one JSON document on stdout; logs in runs/check/logs

Needs a Python with torch 2.11: the one in the variable PYTHON, or the one beside lift, or python3. docs/gpu.md explains \
each part.

Exit codes: 0 no part failed; 1 a part failed; 2 wrong input; 130 interrupted.";

/// Why a command cannot do its task.
#[derive(Debug, thiserror::Error)]
enum LiftError {
    #[error(transparent)]
    Jobs(#[from] SlurmError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    LogExport(#[from] LogExportError),
    #[error("cannot write man pages to `{}`: {source}", path.display())]
    Man { path: std::path::PathBuf, source: std::io::Error },
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error(transparent)]
    GpuCheck(#[from] GpuCheckError),
}

impl LiftError {
    const fn outcome(&self) -> Outcome {
        match self {
            Self::Jobs(error) => error.outcome(),
            Self::Watch(error) => error.outcome(),
            Self::LogExport(error) => error.outcome(),
            Self::Man { .. } => Outcome::Failed,
            Self::Report(error) => error.outcome(),
            Self::GpuCheck(error) => error.outcome(),
        }
    }
}

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

fn act(verb: LiftCommand) -> Result<Outcome, LiftError> {
    let here = current_folder().map_err(SlurmError::from)?;
    Ok(match verb {
        LiftCommand::Run(options) => {
            LaunchPlan::new(options).and_then(|plan| run::run(&plan)).map_err(SlurmError::from)?
        }
        LiftCommand::InitData { arguments } => init_data::run(&arguments).map_err(SlurmError::from)?,
        LiftCommand::Doctor(options) => doctor::examine(&options).map_err(SlurmError::from)?,
        LiftCommand::Probe(probe) => {
            doctor::probe(&probe).map_err(SlurmError::from)?;
            Outcome::Done
        }
        LiftCommand::Submit { job, json } => {
            slurm::submit::submit(&job, &here, json)?;
            Outcome::Done
        }
        LiftCommand::Render(job) => render(&job, &here)?,
        LiftCommand::Job(options) => slurm::batch::run(&options)?,
        LiftCommand::Status { names, json } => status(&names, json)?,
        LiftCommand::Cancel { name, now, grace } => {
            let grace = (!now).then(|| Duration::from_secs(grace.into()));
            done(terminal::print(&format!("{}\n", slurm::cancel::cancel(&name, grace)?)))?
        }
        LiftCommand::Logs { name, follow, rank } => {
            slurm::logs::print(&name, rank, follow)?;
            Outcome::Done
        }
        LiftCommand::LogExport(options) => log_export::run(&options)?,
        LiftCommand::Watch(options) => watch::run(&options)?,
        LiftCommand::Completions(options) => {
            done(terminal::print_as_is(shell::completions(Arguments::command(), options.shell)))?
        }
        LiftCommand::Man(options) => {
            shell::write_man_pages(Arguments::command(), &options.folder)
                .map_err(|(path, source)| LiftError::Man { path, source })?;
            Outcome::Done
        }
        LiftCommand::Report(options) => report::run(&options)?,
        LiftCommand::GpuCheck(options) => gpu_check::run(&options)?,
    })
}

fn render(job: &JobOptions, here: &Path) -> Result<Outcome, SlurmError> {
    // Not escaped: the script is meant to be run.
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

/// A reader that closes the pipe early is not a failure.
fn done(printed: Result<OutputReader, OutputError>) -> Result<Outcome, SlurmError> {
    printed?;
    Ok(Outcome::Done)
}
