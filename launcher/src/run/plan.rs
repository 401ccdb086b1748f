//! Turns the options of `lift run` into a plan, and refuses options that contradict each other.

use super::StartError;
use super::command::{CpuBinding, RankCommand};
use super::hosts::{self, Host};
use crate::limits;
use nix::unistd::{AccessFlags, access};
use protocol::arguments::TrainerArguments;
use protocol::environment;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of `lift run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunOptions {
    /// Number of ranks: one per GPU, or per share of the cores [default: 1, or the ranks of all hosts]
    #[arg(short = 'n', long = "ranks", value_parser = up_to(1, limits::RANKS))]
    pub ranks: Option<u32>,
    /// Hosts with their number of ranks, e.g. node1:4,node2:4; reached over ssh
    #[arg(long, value_name = "HOST:RANKS,...")]
    pub hosts: Option<String>,
    /// File of hosts, one `node1 slots=4` per line
    #[arg(long, value_name = "FILE", conflicts_with = "hosts")]
    pub hostfile: Option<PathBuf>,
    /// CPU binding of each rank
    #[arg(long, value_enum, default_value_t)]
    pub bind: CpuBinding,
    /// Threads per rank: sets `OMP_NUM_THREADS` and train.threads
    #[arg(long, value_parser = up_to(1, limits::THREADS))]
    pub threads: Option<u32>,
    /// GPUs per rank: 1 requires a GPU (train.device=cuda), 0 computes on the CPU [default: a GPU if there is one]
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u32).range(0..=1))]
    pub gpus_per_rank: Option<u32>,
    /// GPUs to use on each host, e.g. 0,2,3; each rank sees all of them and uses the one of its local rank
    #[arg(long, value_name = "DEVICES")]
    pub gpus: Option<String>,
    /// Restart from the newest checkpoint, up to N times, after a failure or a preemption
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = up_to(0, limits::RESTARTS))]
    pub restarts: u32,
    /// Seconds before the first restart; the pause doubles as long as no checkpoint is gained
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub restart_pause: Duration,
    /// Seconds that a signal may suspend a rank, or the process that starts it, before the start counts as failed
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = up_to(1, limits::WAIT_SECONDS))]
    pub stopped_seconds: u32,
    /// Continue without hosts that do not answer, as long as MIN ranks are left
    #[arg(long, value_name = "MIN", value_parser = up_to(1, limits::RANKS))]
    pub elastic: Option<u32>,
    /// Folder for a copy of the standard output and standard error of each rank
    #[arg(long, value_name = "DIR")]
    pub logs: Option<PathBuf>,
    /// Print each event as one line of JSON to stdout; the output of the ranks goes to stderr
    #[arg(long)]
    pub json: bool,
    /// Arguments of lift-trainer [default: train the embedded demo]
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub arguments: Vec<OsString>,
}

fn up_to(least: u32, most: u32) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(least)..=i64::from(most))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let most = limits::WAIT_SECONDS;
    let expected = || format!("expected seconds, e.g. 5 or 0.5, and at most {most}");
    let number: f64 = text.parse().map_err(|_| expected())?;
    if number > f64::from(most) {
        return Err(expected());
    }
    Duration::try_from_secs_f64(number).map_err(|_| expected())
}

/// The checked options of `lift run`.
#[derive(Debug, Clone)]
pub struct LaunchPlan {
    pub(super) ranks: usize,
    pub(super) hosts: Vec<Host>,
    pub(super) run: Option<PathBuf>,
    pub(super) restarts: u32,
    pub(super) pause: Duration,
    pub(super) stopped_seconds: u32,
    pub(super) elastic: Option<usize>,
    pub(super) json: bool,
    /// Whether the command trains; only training can be resumed.
    pub(super) trains: bool,
    start: RankCommand,
}

impl LaunchPlan {
    /// Checks the options and finds the trainer.
    pub fn new(options: RunOptions) -> Result<Self, StartError> {
        let hosts = match (&options.hosts, &options.hostfile) {
            (Some(list), _) => hosts::parse_list(list)?,
            (None, Some(path)) => hosts::read_file(path)?,
            (None, None) => Vec::new(),
        };
        let ranks = count_ranks(&options, &hosts)?;
        check_this_machine(&hosts, ranks)?;
        check_elastic(&options, &hosts, ranks)?;
        check_gpus(&options, &hosts, ranks)?;
        let arguments = arguments(&options)?;
        let trains = arguments.train();
        let run = arguments.output().filter(|_| trains);
        let start = RankCommand {
            trainer: trainer()?,
            arguments,
            ranks,
            hosts: hosts.clone(),
            bind: options.bind,
            threads: options.threads,
            gpus: options.gpus,
            streams: options.logs,
            restarts: 0,
        };
        let (restarts, pause, json) = (options.restarts, options.restart_pause, options.json);
        let (elastic, stopped_seconds) =
            (options.elastic.map(|least| least as usize), options.stopped_seconds);
        Ok(Self { ranks, hosts, run, restarts, pause, stopped_seconds, elastic, json, trains, start })
    }

    /// The command of attempt `restarts`, counted from 0. Each attempt has its own folder for the output of the ranks.
    pub(super) fn start(&self, hosts: Vec<Host>, ranks: usize, restarts: u32) -> RankCommand {
        let arguments =
            if restarts > 0 { self.start.arguments.resumed() } else { self.start.arguments.clone() };
        let streams = self.start.streams.as_ref().map(|folder| folder.join(format!("start-{restarts}")));
        RankCommand { arguments, ranks, hosts, streams, restarts, ..self.start.clone() }
    }
}

fn refuse<T>(sentence: impl Into<String>) -> Result<T, StartError> {
    Err(StartError::Options(sentence.into()))
}

fn count_ranks(options: &RunOptions, hosts: &[Host]) -> Result<usize, StartError> {
    let slots = hosts::slots(hosts);
    match options.ranks.map(|ranks| ranks as usize) {
        None => Ok(slots.max(1)),
        Some(ranks) if !hosts.is_empty() && ranks > slots => refuse(format!(
            "-n {ranks} is more than the {slots} ranks that the hosts take\nhint: raise their numbers, e.g. --hosts {}:{ranks}",
            hosts[0].name
        )),
        Some(ranks) => Ok(ranks),
    }
}

/// Refuses more ranks than this machine can run, if they are certain to start here: inside a scheduler's job, mpirun
/// uses the hosts of that job.
fn check_this_machine(hosts: &[Host], ranks: usize) -> Result<(), StartError> {
    let in_job = ["SLURM_JOB_ID", "PBS_NODEFILE", "LSB_JOBID", "PE_HOSTFILE", "FLUX_JOB_ID"];
    let here = match hosts {
        [] if in_job.into_iter().any(|name| std::env::var_os(name).is_some()) => 0,
        [] => ranks,
        hosts => {
            hosts.iter().filter(|host| hosts::is_here(&host.name)).map(|host| host.slots.min(ranks)).sum()
        }
    };
    let most = limits::ranks_here();
    if here <= most {
        return Ok(());
    }
    refuse(format!(
        "{here} ranks are more than this machine is meant for ({most} at most, each takes memory of its own)\nhint: start fewer, or name other hosts with --hosts"
    ))
}

fn check_elastic(options: &RunOptions, hosts: &[Host], ranks: usize) -> Result<(), StartError> {
    let Some(least) = options.elastic else { return Ok(()) };
    if hosts.len() < 2 {
        return refuse(
            "--elastic continues with the hosts that are left; it needs --hosts or --hostfile with two or more",
        );
    }
    if least as usize > ranks {
        return refuse(format!("--elastic {least} is more than the {ranks} ranks of the whole run"));
    }
    if options.restarts == 0 {
        return refuse(
            "--elastic needs --restarts: a lost host ends the ranks, and a restart continues without it",
        );
    }
    if std::env::var_os("SLURM_JOB_ID").is_some() {
        return refuse(
            "--elastic asks hosts by ssh\nhint: inside a Slurm job leave lost nodes to Slurm (lift submit)",
        );
    }
    Ok(())
}

fn check_gpus(options: &RunOptions, hosts: &[Host], ranks: usize) -> Result<(), StartError> {
    let Some(gpus) = &options.gpus else { return Ok(()) };
    if options.gpus_per_rank == Some(0) {
        return refuse("--gpus has no effect with --gpus-per-rank 0\nhint: leave one of them out");
    }
    let devices: Vec<&str> = gpus.split(',').map(str::trim).collect();
    if let Some(device) = devices.iter().find(|device| !is_device(device)) {
        return refuse(format!("`{device}` in --gpus {gpus} is not a device; expected e.g. --gpus 0,1"));
    }
    if let Some(twice) = devices.iter().enumerate().find(|(at, device)| devices[..*at].contains(device)) {
        return refuse(format!("--gpus {gpus} names device {} twice; each rank needs its own", twice.1));
    }
    let most = hosts.iter().map(|host| host.slots).max().unwrap_or(ranks);
    if devices.len() < most {
        let (have, plural) = (devices.len(), if devices.len() == 1 { "" } else { "s" });
        return refuse(format!(
            "--gpus {gpus} names {have} device{plural} for {most} ranks on a host; each rank needs its own"
        ));
    }
    Ok(())
}

/// Whether CUDA accepts this device name: an index, the UUID of a GPU, or the UUID of a MIG device.
fn is_device(name: &str) -> bool {
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits && name.parse::<u32>().is_ok_and(|number| number < limits::RANKS_OF_HOST);
    number || name.starts_with("GPU-") || name.starts_with("MIG-")
}

fn arguments(options: &RunOptions) -> Result<TrainerArguments, StartError> {
    let mut arguments = TrainerArguments::new(options.arguments.clone());
    arguments.check()?;
    if let Some(threads) = options.threads.filter(|_| !arguments.sets("train.threads")) {
        arguments = arguments.with("--set", format!("train.threads={threads}"));
    }
    match options.gpus_per_rank.filter(|_| !arguments.sets("train.device")) {
        Some(0) => arguments = arguments.with("--set", "train.device=cpu"),
        Some(_) => arguments = arguments.with("--set", "train.device=cuda"),
        None => {}
    }
    if options.restarts == 0 {
        return Ok(arguments);
    }
    if !arguments.train() {
        return refuse("--restarts is for training: `lift-trainer train`, or nothing for the embedded demo");
    }
    if arguments.resume().is_some_and(|resume| resume == "never") {
        return refuse(
            "--restarts resumes the run, which --resume never forbids\nhint: leave one of them out",
        );
    }
    if arguments.output().is_none() {
        arguments = arguments.with("--output", new_run_folder());
    }
    Ok(arguments)
}

/// A restart must find the folder of the first attempt, so the folder is named before that attempt.
fn new_run_folder() -> PathBuf {
    let time = protocol::Timestamp::now().to_string();
    let digits: String = time.chars().filter(char::is_ascii_digit).take(14).collect();
    PathBuf::from(format!("runs/run-{digits}-{}", std::process::id()))
}

/// Path of the trainer: from the environment, or beside this program.
pub fn trainer() -> Result<PathBuf, StartError> {
    let named = std::env::var_os(environment::TRAINER).filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = match named {
        Some(path) => path,
        None => std::env::current_exe().map_err(StartError::Watch)?.with_file_name("lift-trainer"),
    };
    if is_program(&path) { Ok(absolute(&path)) } else { Err(StartError::NoTrainer(path)) }
}

/// Whether the path is an executable file.
pub(crate) fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

/// A program on PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| is_program(path))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
