//! What the person typed.

use super::bench::arguments::BenchCommand;
use super::export::ExportArguments;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// One rank of LIFT training. Start several with mpirun or srun; alone it is a world of one.
#[derive(Debug, Parser)]
#[command(name = "lift-trainer", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// What to do; nothing trains the embedded demo
    #[command(subcommand)]
    pub verb: Option<TrainerCommand>,
    /// How to talk
    #[command(flatten)]
    pub talk: OutputArguments,
}

impl Arguments {
    /// Whether several ranks may do this together.
    pub fn is_over_ranks(&self) -> bool {
        !matches!(
            &self.verb,
            Some(
                TrainerCommand::Check(_)
                    | TrainerCommand::Order(_)
                    | TrainerCommand::Export(_)
                    | TrainerCommand::List(_)
                    | TrainerCommand::Bench(BenchCommand::Sampler(_) | BenchCommand::Scaling(_))
            )
        )
    }
}

const EXAMPLES: &str = "Examples:
  lift-trainer                                   train the embedded demo on one rank
  mpirun -n 8 lift-trainer                       the same on eight
  mpirun -n 2 lift-trainer train -d cifar100_ir100 -m tiny_clip --set data.root=DIR --set model.weights=FILE
  lift-trainer eval --run runs/NAME
  lift-trainer eval --run runs/NAME --set data.root=DIR --predictions FILE
  lift-trainer export --run runs/NAME --format lift --output checkpoint.pth.tar
  lift-trainer check -d inat2018 -m clip_vit_b16 --set data.root=DIR --set model.weights=FILE
  lift-trainer list methods";

const LIST_EXAMPLES: &str = "Examples:
  lift-trainer list                              everything, group by group
  lift-trainer list methods                      names for --method
  lift-trainer list losses                       words for --set loss.kind=NAME
  lift-trainer list --json models                the same as JSON, with the whole descriptions";

/// How the program talks.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArguments {
    /// Print the result as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but warnings, errors and the result
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum TrainerCommand {
    /// Train, then evaluate; writes a run folder
    Train(TrainArguments),
    /// Evaluate trained tensors: of a run, or of a file
    Eval(EvalArguments),
    /// Validate configuration, data and weights, without training
    Check(SelectionArguments),
    /// Print which sample is trained at which position, rank and step, a JSON line each; needs no model
    Order(OrderArguments),
    /// Write the trained tensors of a run for another program; needs no data, backbone or GPU
    Export(ExportArguments),
    /// List data, models, methods, tuners, losses, heads and starts of heads, a line each
    List(ListArguments),
    /// Train the embedded demo with several methods, and print one table
    Demo(DemoArguments),
    /// Measure what collectives, samplers and steps cost here
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// Which data, model and method.
#[derive(Debug, Clone, Args)]
pub struct SelectionArguments {
    /// Data preset, or a .toml file of your own
    #[arg(short, long, default_value = "demo")]
    pub data: String,
    /// Model preset, or a .toml file of your own
    #[arg(short, long, default_value = "demo")]
    pub model: String,
    /// Method preset, or a .toml file of your own
    #[arg(long, default_value = "lift")]
    pub method: String,
    /// Override one value of the configuration
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
    /// Go on from a checkpoint: `auto` from the newest of the run folder, if there is one; a run folder; the folder of
    /// a checkpoint; or `never` [default: auto in a restarted job, else never]
    #[arg(long, value_name = "auto|PATH|never")]
    pub resume: Option<String>,
    /// A key whose value may differ from that of the run to go on with
    #[arg(long, value_name = "SECTION.KEY", value_delimiter = ',')]
    pub allow_changed: Vec<String>,
    /// Write the predicted class of each evaluated image, one a line
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
}

/// Arguments of `eval`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["run", "weights"]))]
pub struct EvalArguments {
    /// Run folder whose configuration and final weights are evaluated; --set says what has moved, as data.root, and
    /// what to look at, as eval.crops
    #[arg(long, conflicts_with_all = ["data", "model", "method"])]
    pub run: Option<PathBuf>,
    /// File of trainable tensors: our final.safetensors, official names in safetensors, or checkpoint.pth.tar
    #[arg(long)]
    pub weights: Option<PathBuf>,
    /// What the tensors of --weights belong to
    #[command(flatten)]
    pub select: SelectionArguments,
    /// Folder for result.json [default for --weights: runs/DATA-MODEL-METHOD-eval; none for --run]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Write the predicted class of each evaluated image, one a line
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
}

/// Arguments of `order`.
#[derive(Debug, Args)]
pub struct OrderArguments {
    /// Whose order
    #[command(flatten)]
    pub select: SelectionArguments,
    /// Epoch, counted from 0
    #[arg(long, default_value_t = 0)]
    pub epoch: u64,
    /// First position
    #[arg(long, default_value_t = 0)]
    pub from: u64,
    /// Number of positions; those past the end of the epoch are left out
    #[arg(long, default_value_t = u64::MAX)]
    pub count: u64,
    /// Number of ranks
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub world: u64,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub struct ListArguments {
    /// What to list [default: everything]
    #[arg(value_enum)]
    pub group: Option<ListGroup>,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListGroup {
    /// Data presets
    Data,
    /// Model presets
    Models,
    /// Method presets
    Methods,
    /// What is trained beside the head
    Tuners,
    /// What is minimised
    Losses,
    /// Classifiers
    Heads,
    /// What the rows of a classifier start from
    Inits,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Methods to compare
    #[arg(long, value_delimiter = ',', default_value = "zero_shot,classifier,full,lift")]
    pub methods: Vec<String>,
    /// Folder for the runs, one folder a method [default: runs/demo]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Override one value of the configuration
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}
