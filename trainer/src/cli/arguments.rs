//! What the person typed.

use super::bench::arguments::Bench;
use super::export::Export;
use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::command_line::{Select, Talk, Train, with_verb};
use std::ffi::OsString;
use std::path::PathBuf;

/// One rank of LIFT training. Start several with mpirun or srun; alone it is a world of one.
#[derive(Debug, Parser)]
#[command(name = "lift-trainer", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// What to do; options alone are those of `train`, and nothing at all trains the embedded demo
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// How to talk
    #[command(flatten)]
    pub talk: Talk,
}

impl Arguments {
    /// Reads the words of a command line behind the name of the program.
    pub fn read(typed: Vec<OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(std::iter::once(OsString::from("lift-trainer")).chain(with_verb(typed)))
    }

    /// Whether several ranks may do this together.
    pub fn is_over_ranks(&self) -> bool {
        !matches!(
            &self.verb,
            Some(
                Verb::Check(_)
                    | Verb::Order(_)
                    | Verb::Export(_)
                    | Verb::List(_)
                    | Verb::Bench(Bench::Sampler(_) | Bench::Scaling(_))
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

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Train, then evaluate; writes a run folder
    Train(Train),
    /// Evaluate trained tensors: of a run, or of a file
    Eval(Eval),
    /// Validate configuration, data and weights, without training
    Check(Select),
    /// Print which sample is trained at which position, rank and step, a JSON line each; needs no model
    Order(OrderOf),
    /// Write the trained tensors of a run for another program; needs no data, backbone or GPU
    Export(Export),
    /// List data, models, methods, tuners, losses, heads and starts of heads, a line each
    List(List),
    /// Train the embedded demo with several methods, and print one table
    Demo(Demo),
    /// Measure what collectives, samplers and steps cost here
    #[command(subcommand)]
    Bench(Bench),
}

/// Arguments of `eval`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["run", "weights"]))]
pub struct Eval {
    /// Run folder whose configuration and final weights are evaluated; --set says what has moved, as data.root, and
    /// what to look at, as eval.crops
    #[arg(long, conflicts_with_all = ["data", "model", "method"])]
    pub run: Option<PathBuf>,
    /// File of trainable tensors: our final.safetensors, official names in safetensors, or checkpoint.pth.tar
    #[arg(long)]
    pub weights: Option<PathBuf>,
    /// What the tensors of --weights belong to
    #[command(flatten)]
    pub select: Select,
    /// Folder for result.json [default for --weights: runs/DATA-MODEL-METHOD-eval; none for --run]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Write the predicted class of each evaluated image, one a line
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
}

/// Arguments of `order`.
#[derive(Debug, Args)]
pub struct OrderOf {
    /// Whose order
    #[command(flatten)]
    pub select: Select,
    /// Epoch, counted from 0
    #[arg(long, default_value_t = 0)]
    pub epoch: u64,
    /// First position
    #[arg(long, default_value_t = 0)]
    pub from: u64,
    /// Number of positions [default: all to the end of the epoch]
    #[arg(long)]
    pub count: Option<u64>,
    /// Number of ranks
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub world: u64,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub struct List {
    /// What to list [default: everything]
    #[arg(value_enum)]
    pub group: Option<Group>,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
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
pub struct Demo {
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn read(line: &str) -> Result<Arguments, String> {
        let words = line.split_whitespace().map(OsString::from).collect();
        Arguments::read(words).map_err(|error| error.to_string())
    }

    #[test]
    fn options_alone_train_and_nothing_is_the_embedded_demo() {
        let Some(Verb::Train(train)) = read("--quiet -d demo -m x --set train.epochs=1").unwrap().verb else {
            panic!("options are those of train")
        };
        assert_eq!((train.select.data.as_str(), train.select.model.as_str()), ("demo", "x"));
        assert!(read("").unwrap().verb.is_none() && read("--json").unwrap().verb.is_none());
        assert!(matches!(read("-q check -d x").unwrap().verb, Some(Verb::Check(_))));
        let error = read("-d demo eval --run x").unwrap_err();
        assert!(error.contains("unexpected argument 'eval'"), "{error}");
    }

    #[test]
    fn help_names_no_number_that_nobody_means() {
        let mut command = Arguments::command();
        command.build();
        for sub in command.get_subcommands_mut() {
            let help = sub.render_long_help().to_string();
            assert!(!help.contains(&u64::MAX.to_string()), "{help}");
        }
    }

    #[test]
    fn order_is_of_the_whole_epoch_unless_a_number_is_given() {
        let count = |line: &str| match read(line).unwrap().verb {
            Some(Verb::Order(order)) => order.count,
            other => panic!("{other:?}"),
        };
        assert_eq!((count("order"), count("order --count 3")), (None, Some(3)));
    }
}
