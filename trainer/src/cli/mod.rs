//! The command line: parsing, dispatch and the exit code of the process.

mod arguments;
mod bench;
mod calibrate;
mod check;
mod demo;
mod eval;
mod export;
mod findings;
mod finished_run;
mod here;
mod init_data;
mod list;
mod order;
mod outcome;
mod pack;
mod predict;
mod probe;
mod shell;
mod train;
mod work_progress;

use crate::config::{Config, Resolved, Selection};
use crate::engine::failure::{Failure, agreed};
use crate::engine::panics;
use crate::engine::rank::Rank;
use crate::engine::setup::bf16;
use crate::engine::setup::device::DeviceChoice;
use crate::engine::setup::library_environment;
use crate::engine::training::stopping::StopListener;
use crate::run::{Deadline, Logging, start_limit};
use arguments::{Arguments, TrainerCommand};
use bench::arguments::BenchCommand;
use collectives::World;
use export::ExportFormat;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use protocol::Outcome;
use protocol::command_line::{OutputArguments, SelectionArguments};
use std::process::ExitCode;

pub use here::refuse_deleted_folder;

/// Runs the program. The exit code is decided here and nowhere else;
/// [`Outcome::exit_code`](protocol::Outcome::exit_code) has the table.
pub fn main() -> ExitCode {
    panics::install();
    let arguments = match Arguments::read(std::env::args_os().skip(1).collect()) {
        Ok(arguments) => arguments,
        Err(error) => return outcome::usage(&error),
    };
    // Listing presets needs neither CUDA nor MPI.
    if let Some(TrainerCommand::List(list)) = &arguments.verb {
        return outcome::exit(outcome::once(|| list::run(list, arguments.output_arguments)));
    }
    match &arguments.verb {
        Some(TrainerCommand::Completions(options)) => {
            return outcome::exit(outcome::once(|| shell::print_completions(*options)));
        }
        Some(TrainerCommand::Man(options)) => {
            return outcome::exit(outcome::once(|| shell::write_man_pages(options)));
        }
        _ => {}
    }
    // It opens CUDA itself, after the parts that cannot hang.
    if matches!(arguments.verb, Some(TrainerCommand::Probe)) {
        return outcome::exit(probe::run().map(|()| Outcome::Done));
    }
    if arguments.is_over_ranks() {
        library_environment::set();
    } else {
        // A packed set may have thousands of shards.
        allow_many_files();
    }
    protocol::orphan::watch_parent();
    let result = match &arguments.verb {
        Some(TrainerCommand::Check(check)) => outcome::once(|| check::run(check, arguments.output_arguments)),
        Some(TrainerCommand::Order(order)) => outcome::once(|| order::run(order, arguments.output_arguments)),
        Some(TrainerCommand::InitData(init)) => {
            outcome::once(|| init_data::run(init, arguments.output_arguments))
        }
        Some(TrainerCommand::Pack(pack)) => outcome::once(|| pack::run(pack, arguments.output_arguments)),
        Some(TrainerCommand::Export(export)) if export.format == ExportFormat::Lift => {
            outcome::once(|| export::run(export, arguments.output_arguments))
        }
        Some(TrainerCommand::Bench(BenchCommand::Sampler(sampler))) => {
            outcome::once(|| bench::sampler::run(sampler, arguments.output_arguments))
        }
        Some(TrainerCommand::Bench(BenchCommand::Data(data))) => {
            outcome::once(|| bench::data::run(data, arguments.output_arguments))
        }
        _ => return over_ranks(&arguments),
    };
    outcome::exit(result)
}

/// Context of every command that runs over ranks.
pub(crate) struct CommandContext<'a> {
    pub(crate) world: &'a World,
    pub(crate) stopping: &'a StopListener,
    pub(crate) logging: &'a Logging,
    pub(crate) output_arguments: OutputArguments,
}

impl CommandContext<'_> {
    /// Resolves the configuration on every rank, and opens the rank with the configured device and threads.
    pub(crate) fn open(&self, select: &SelectionArguments) -> Result<(Resolved, Rank), Failure> {
        let control = self.world.control().map_err(Failure::run)?;
        let mut resolved = agreed(&control, || resolve(select))?;
        let rank = self.rank(&resolved.config)?;
        let settled = bf16::settle(&mut resolved.config, &rank)?;
        for note in settled.iter().filter(|_| rank.leads() && !self.output_arguments.quiet) {
            protocol::terminal::say(note);
        }
        Ok((resolved, rank))
    }

    /// Opens the rank with the configured device and threads.
    pub(crate) fn rank(&self, config: &Config) -> Result<Rank, Failure> {
        use crate::config::DeviceName;
        let choice = match config.train.device {
            DeviceName::Auto => DeviceChoice::Auto,
            DeviceName::Cuda => DeviceChoice::Cuda,
            DeviceName::Cpu => DeviceChoice::Cpu,
        };
        let threads = config.train.compute_threads();
        Rank::open(self.world, choice, threads, self.stopping.clone(), &config.distributed)
    }
}

/// Resolves the configuration from the command-line selection.
pub(crate) fn resolve(select: &SelectionArguments) -> Result<Resolved, Failure> {
    Config::resolve(&selection(select)).map_err(Failure::input)
}

/// The same for a command that reads images and no weights.
fn resolve_for_images(select: &SelectionArguments) -> Result<Resolved, Failure> {
    Config::resolve_for_images(&selection(select)).map_err(Failure::input)
}

fn selection(select: &SelectionArguments) -> Selection {
    let SelectionArguments { data, model, method, set } = select.clone();
    Selection { data, model, method, set }
}

/// Raises the limit of open files to the hard limit: rank 0 has a connection to each rank, MPI has its own, and loaders
/// open files.
fn allow_many_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}

fn over_ranks(arguments: &Arguments) -> ExitCode {
    // Before MPI, whose start takes seconds: a request to stop during that time is handled and does not kill the
    // process.
    let stopping = match StopListener::start() {
        Ok(stopping) => stopping,
        Err(error) => return outcome::exit(Err(Failure::run(error))),
    };
    allow_many_files();
    let (own, limit) = match start_limit() {
        Ok(limit) => (outcome::launched_rank(), limit),
        Err(error) => return outcome::exit(Err(Failure::input(error))),
    };
    let starting = Deadline::start("the start of MPI", own, limit);
    let world = match World::start() {
        Ok(world) => world,
        Err(error) => {
            return outcome::exit(Err(Failure::input(error)));
        }
    };
    drop(starting);
    stopping.block_signals();
    let result = outcome::on_world(&world, || {
        let logging = Logging::start(world.rank()).map_err(Failure::input)?;
        let (stopping, logging) = (&stopping, &logging);
        let context =
            CommandContext { world: &world, stopping, logging, output_arguments: arguments.output_arguments };
        match &arguments.verb {
            Some(TrainerCommand::Train(train)) => train::run(&context, train),
            Some(TrainerCommand::Eval(eval)) => eval::run(&context, eval),
            Some(TrainerCommand::Export(export)) => export::over_ranks(&context, export),
            Some(TrainerCommand::Predict(predict)) => predict::run(&context, predict),
            Some(TrainerCommand::Calibrate(calibrate)) => calibrate::run(&context, calibrate),
            Some(TrainerCommand::Demo(demo)) => demo::run(&context, demo),
            Some(TrainerCommand::Bench(BenchCommand::Collectives(options))) => {
                bench::collectives::run(&context, options)
            }
            Some(TrainerCommand::Bench(BenchCommand::Step(options))) => bench::step::run(&context, options),
            _ => demo::embedded(&context),
        }
    });
    stopping.acknowledge();
    // MPI is finalised here, on every rank, before the process ends.
    let _parting = Deadline::start("the end of MPI", own, limit);
    drop(world);
    ExitCode::from(result.exit_code())
}
