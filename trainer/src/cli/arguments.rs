//! The command line of `lift-trainer`.

use super::bench::arguments::BenchCommand;
use super::calibrate::CalibrateArguments;
use super::check::CheckArguments;
use super::export::{ExportArguments, ExportFormat};
use super::init_data::InitDataArguments;
use super::pack::PackArguments;
use super::predict::PredictArguments;
use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::command_line::{OutputArguments, SelectionArguments, TrainArguments, with_verb};
use protocol::shell::{CompletionOptions, ManOptions, completion_examples};
use std::ffi::OsString;
use std::path::PathBuf;

/// Train and evaluate image classifiers on long-tailed data (LIFT). One process is one rank: start several ranks with
/// `mpirun`, `srun` or `lift run`; started directly, it runs as one rank.
#[derive(Debug, Parser)]
#[command(name = "lift-trainer", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Command; without one, options are those of `train`, and without any argument the embedded demo is trained
    #[command(subcommand)]
    pub verb: Option<TrainerCommand>,
    /// Output options
    #[command(flatten)]
    pub output_arguments: OutputArguments,
}

impl Arguments {
    /// Parses the arguments after the program name.
    pub fn read(typed: Vec<OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(std::iter::once(OsString::from("lift-trainer")).chain(with_verb(typed)))
    }

    /// Whether the command runs over ranks.
    pub fn is_over_ranks(&self) -> bool {
        !matches!(
            &self.verb,
            Some(
                TrainerCommand::Check(_)
                    | TrainerCommand::Order(_)
                    | TrainerCommand::InitData(_)
                    | TrainerCommand::Pack(_)
                    | TrainerCommand::Export(ExportArguments { format: ExportFormat::Lift, .. })
                    | TrainerCommand::List(_)
                    | TrainerCommand::Probe
                    | TrainerCommand::Completions(_)
                    | TrainerCommand::Man(_)
                    | TrainerCommand::Bench(BenchCommand::Sampler(_) | BenchCommand::Data(_))
            )
        )
    }
}

const EXAMPLES: &str = "Examples:
  lift-trainer                                   train the embedded demo on one rank
  mpirun -n 8 lift-trainer                       the same on eight ranks
  mpirun -n 2 lift-trainer train -d cifar100_ir100 -m tiny_clip \\
      --set data.root=DIR --set model.weights=FILE
  lift-trainer eval --run runs/NAME
  lift-trainer eval --run runs/NAME --set data.root=DIR --predictions FILE
  lift-trainer calibrate --run runs/NAME
  lift-trainer predict --run runs/NAME photo.jpg FOLDER list.txt
  lift-trainer export --run runs/NAME --format lift --output checkpoint.pth.tar
  lift-trainer check -d inat2018 -m clip_vit_b16 --set data.root=DIR --set model.weights=FILE
  lift-trainer pack -d inat2018 --set data.root=DIR --shorter-side 288 --output DIR
  lift-trainer list methods                      the available methods";

const LIST_EXAMPLES: &str = "Examples:
  lift-trainer list                              all groups
  lift-trainer list methods                      names for --method
  lift-trainer list losses                       words for --set loss.kind=NAME
  lift-trainer list --json models                as JSON, with full descriptions";

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum TrainerCommand {
    /// Train and evaluate a model; writes a run folder
    Train(TrainArguments),
    /// Evaluate a run or a file of trained tensors
    Eval(EvalArguments),
    /// Predict the classes of images with a finished run; needs no data set
    Predict(PredictArguments),
    /// Calibrate the probabilities of a finished run, and measure sets of classes that contain the label
    Calibrate(CalibrateArguments),
    /// Check configuration, data and weights without training
    Check(CheckArguments),
    /// Print the sample, rank and step of each position in the training order as JSON lines; needs no model
    Order(OrderArguments),
    /// Read a folder of own pictures, show what is in it, divide it into training and test, and write a preset
    InitData(InitDataArguments),
    /// Pack a data set into tar shards with an index: copied, reduced, or as pixels
    Pack(PackArguments),
    /// Export a trained model for another program; needs no data and no GPU
    Export(ExportArguments),
    /// List data sets, models, methods, tuners, losses, heads and head initialisations
    List(ListArguments),
    /// Train the embedded demo with several methods and print a comparison table
    Demo(DemoArguments),
    /// Benchmark collectives, samplers, the loader and training steps
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print the script with which a shell completes the words of `lift-trainer`
    #[command(after_help = completion_examples("lift-trainer"))]
    Completions(CompletionOptions),
    /// Write man pages of `lift-trainer` and its commands
    Man(ManOptions),
    /// Report the libraries, the cores and the GPUs of this process as lines of JSON, for `lift doctor`
    #[command(hide = true)]
    Probe,
}

/// Arguments of `eval`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["run", "weights"]))]
pub struct EvalArguments {
    /// Run folder to evaluate, with its configuration and its final tensors; use --set for a path that has moved
    /// (data.root) and for the evaluation (eval.crops)
    #[arg(long, conflicts_with_all = ["data", "model", "method"])]
    pub run: Option<PathBuf>,
    /// File of trained tensors: final.safetensors, another safetensors file with official names, or
    /// checkpoint.pth.tar
    #[arg(long)]
    pub weights: Option<PathBuf>,
    /// Configuration that the tensors of --weights belong to
    #[command(flatten)]
    pub select: SelectionArguments,
    /// Folder for result.json [default for --weights: runs/DATA-MODEL-METHOD-eval; none for --run]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Write the predicted class of each evaluated image to FILE, one per line
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// Write the logits of each evaluated image to FILE (safetensors), with its label and its name
    #[arg(long, value_name = "FILE")]
    pub logits: Option<PathBuf>,
}

/// Arguments of `order`.
#[derive(Debug, Args)]
pub struct OrderArguments {
    /// Configuration of the order
    #[command(flatten)]
    pub select: SelectionArguments,
    /// Epoch, counted from 0
    #[arg(long, default_value_t = 0)]
    pub epoch: u64,
    /// First position
    #[arg(long, default_value_t = 0)]
    pub from: u64,
    /// Number of positions [default: all to the end of the epoch]
    #[arg(long)]
    pub count: Option<u64>,
    /// World size: the number of ranks
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub world: u64,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub struct ListArguments {
    /// Group to list [default: all groups]
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
    /// Tuners: what is trained besides the head
    Tuners,
    /// Loss functions
    Losses,
    /// Classifiers
    Heads,
    /// Initialisations of a classifier
    Inits,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Methods to compare, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "zero_shot,classifier,full,lift")]
    pub methods: Vec<String>,
    /// Folder for the runs, with one folder per method [default: runs/demo]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Set one configuration value; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn read(line: &str) -> Result<Arguments, String> {
        let words = line.split_whitespace().map(OsString::from).collect();
        Arguments::read(words).map_err(|error| error.to_string())
    }

    #[test]
    fn options_without_a_verb_train_and_no_arguments_run_the_embedded_demo() {
        let Some(TrainerCommand::Train(train)) =
            read("--quiet -d demo -m x --set train.epochs=1").unwrap().verb
        else {
            panic!("options are those of train")
        };
        assert_eq!((train.select.data.as_str(), train.select.model.as_str()), ("demo", "x"));
        assert!(read("").unwrap().verb.is_none() && read("--json").unwrap().verb.is_none());
        assert!(matches!(read("-q check -d x").unwrap().verb, Some(TrainerCommand::Check(_))));
        let error = read("-d demo eval --run x").unwrap_err();
        assert!(error.contains("unexpected argument 'eval'"), "{error}");
    }

    #[test]
    fn help_shows_no_sentinel_number() {
        let mut command = Arguments::command();
        command.build();
        for sub in command.get_subcommands_mut() {
            let help = sub.render_long_help().to_string();
            assert!(!help.contains(&u64::MAX.to_string()), "{help}");
        }
    }

    #[test]
    fn order_covers_the_full_epoch_unless_a_count_is_given() {
        let count = |line: &str| match read(line).unwrap().verb {
            Some(TrainerCommand::Order(order)) => order.count,
            other => panic!("{other:?}"),
        };
        assert_eq!((count("order"), count("order --count 3")), (None, Some(3)));
    }
}
