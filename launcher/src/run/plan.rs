//! From the options of `lift run` to what is started; what does not fit is refused here.

use super::RunError;
use super::command::{Bind, Start};
use super::hosts::{self, Host};
use crate::arguments::TrainerArguments;
use crate::limits;
use crate::protocol::environment;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a person may say to `lift run`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Number of ranks: one per GPU, or per share of the cores [default: 1, or as many as the hosts take]
    #[arg(short = 'n', long = "ranks", value_parser = up_to(1, limits::RANKS))]
    pub ranks: Option<u32>,
    /// Hosts and the ranks each takes, e.g. node1:4,node2:4; they are reached by ssh
    #[arg(long, value_name = "HOST:RANKS,...")]
    pub hosts: Option<String>,
    /// File of hosts, one `node1 slots=4` a line
    #[arg(long, value_name = "FILE", conflicts_with = "hosts")]
    pub hostfile: Option<PathBuf>,
    /// What to bind each rank to; without, the trainer divides the cores of a host over its ranks
    #[arg(long, value_enum, default_value_t)]
    pub bind: Bind,
    /// Threads of each rank: sets `OMP_NUM_THREADS` and train.threads
    #[arg(long, value_parser = up_to(1, limits::THREADS))]
    pub threads: Option<u32>,
    /// GPUs of each rank: 1 insists on one (train.device=cuda), 0 computes on the CPU [default: what is there]
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u32).range(0..=1))]
    pub gpus_per_rank: Option<u32>,
    /// Devices to use on each host, e.g. 0,2,3; every rank sees all of them and takes the one of its number
    #[arg(long, value_name = "DEVICES")]
    pub gpus: Option<String>,
    /// Start again, from the newest checkpoint, up to N times after a failure or preemption
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = up_to(0, limits::RESTARTS))]
    pub restarts: u32,
    /// Seconds before the first restart; they double as long as no step is gained
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub restart_pause: Duration,
    /// Seconds that a signal may stop a rank, or what starts it, before that counts as a failure
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = up_to(1, limits::WAIT_SECONDS))]
    pub stopped_seconds: u32,
    /// Go on without hosts that do not answer, as long as MIN ranks are left
    #[arg(long, value_name = "MIN", value_parser = up_to(1, limits::RANKS))]
    pub elastic: Option<u32>,
    /// Folder for what each rank writes to its standard output and error, besides the terminal
    #[arg(long, value_name = "DIR")]
    pub logs: Option<PathBuf>,
    /// Print a line of JSON for each event on standard output; what ranks print goes to standard error
    #[arg(long)]
    pub json: bool,
    /// Arguments of lift-trainer; none trains the embedded demo
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

/// What `lift run` will do.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) ranks: usize,
    pub(super) hosts: Vec<Host>,
    pub(super) run: Option<PathBuf>,
    pub(super) restarts: u32,
    pub(super) pause: Duration,
    pub(super) stopped_seconds: u32,
    pub(super) elastic: Option<usize>,
    pub(super) json: bool,
    /// Whether the ranks train, so that there is something to resume.
    pub(super) trains: bool,
    start: Start,
}

impl Plan {
    /// Checks the options and finds the trainer.
    pub fn new(options: Options) -> Result<Self, RunError> {
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
        let start = Start {
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

    /// The start number `restarts`, counted from 0. Each has a folder of its own for the ranks' streams.
    pub(super) fn start(&self, hosts: Vec<Host>, ranks: usize, restarts: u32) -> Start {
        let arguments =
            if restarts > 0 { self.start.arguments.resumed() } else { self.start.arguments.clone() };
        let streams = self.start.streams.as_ref().map(|folder| folder.join(format!("start-{restarts}")));
        Start { arguments, ranks, hosts, streams, restarts, ..self.start.clone() }
    }
}

fn refuse<T>(sentence: impl Into<String>) -> Result<T, RunError> {
    Err(RunError::Options(sentence.into()))
}

fn count_ranks(options: &Options, hosts: &[Host]) -> Result<usize, RunError> {
    let slots = hosts::slots(hosts);
    match options.ranks.map(|ranks| ranks as usize) {
        None => Ok(slots.max(1)),
        Some(ranks) if !hosts.is_empty() && ranks > slots => refuse(format!(
            "-n {ranks} is more than the {slots} ranks that the hosts take; raise their numbers, e.g. --hosts {}:{ranks}",
            hosts[0].name
        )),
        Some(ranks) => Ok(ranks),
    }
}

/// Refuses more ranks than this machine can be meant to take, where they are certain to start here: without hosts,
/// mpirun takes those of the scheduler's job.
fn check_this_machine(hosts: &[Host], ranks: usize) -> Result<(), RunError> {
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
        "{here} ranks are more than this machine is meant for ({most} at most, each takes memory of its own); start fewer, or name other hosts with --hosts"
    ))
}

fn check_elastic(options: &Options, hosts: &[Host], ranks: usize) -> Result<(), RunError> {
    let Some(least) = options.elastic else { return Ok(()) };
    if hosts.len() < 2 {
        return refuse(
            "--elastic goes on with the hosts that are left; it needs --hosts or --hostfile with two or more",
        );
    }
    if least as usize > ranks {
        return refuse(format!("--elastic {least} is more than the {ranks} ranks of the whole run"));
    }
    if options.restarts == 0 {
        return refuse(
            "--elastic needs --restarts: a host that is lost ends the ranks, and a restart goes on without it",
        );
    }
    if std::env::var_os("SLURM_JOB_ID").is_some() {
        return refuse(
            "--elastic asks hosts by ssh; inside a Slurm job leave lost nodes to Slurm (lift submit)",
        );
    }
    Ok(())
}

fn check_gpus(options: &Options, hosts: &[Host], ranks: usize) -> Result<(), RunError> {
    let Some(gpus) = &options.gpus else { return Ok(()) };
    if options.gpus_per_rank == Some(0) {
        return refuse("--gpus has no effect with --gpus-per-rank 0; leave one of them out");
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

/// Whether CUDA may know a device by that name: by its number on a host, or by its or its part's UUID.
fn is_device(name: &str) -> bool {
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits && name.parse::<u32>().is_ok_and(|number| number < limits::RANKS_OF_HOST);
    number || name.starts_with("GPU-") || name.starts_with("MIG-")
}

fn arguments(options: &Options) -> Result<TrainerArguments, RunError> {
    let mut arguments = TrainerArguments::new(options.arguments.clone());
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
        return refuse("--restarts resumes the run, which --resume never forbids; leave one of them out");
    }
    if arguments.output().is_none() {
        arguments = arguments.with("--output", new_run_folder());
    }
    Ok(arguments)
}

/// A restart has to find the folder of the first start, so it is named before that.
fn new_run_folder() -> PathBuf {
    let time = crate::protocol::Timestamp::now().to_string();
    let digits: String = time.chars().filter(char::is_ascii_digit).take(14).collect();
    PathBuf::from(format!("runs/run-{digits}-{}", std::process::id()))
}

/// The trainer to start: the one that the environment names, or the one beside this program.
pub fn trainer() -> Result<PathBuf, RunError> {
    let named = std::env::var_os(environment::TRAINER).filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = match named {
        Some(path) => path,
        None => std::env::current_exe().map_err(RunError::Watch)?.with_file_name("lift-trainer"),
    };
    if path.is_file() { Ok(absolute(&path)) } else { Err(RunError::NoTrainer(path)) }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
