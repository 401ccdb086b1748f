//! The command line of `bench`.

use crate::bench::Comparison;
use crate::config::DecodeName;
use crate::options::OptionType;
use clap::{Args, Subcommand};
use protocol::command_line::SelectionArguments;
use std::path::PathBuf;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Latency and bandwidth of collectives by message size, over all started ranks
    Collectives(CollectivesArguments),
    /// Images per second of the loader, and the time of each stage
    Data(DataArguments),
    /// Build time, positions per second and memory of each sampler
    Sampler(SamplerArguments),
    /// Time of each part of a training step and the cost of settings, over all started ranks
    Step(StepArguments),
}

/// Arguments of `bench collectives`.
#[derive(Debug, Args)]
pub struct CollectivesArguments {
    /// Largest tensor, in bytes
    #[arg(long, default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(4..))]
    pub max_bytes: u64,
    /// Rounds; the report shows their medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Milliseconds for which calls of one kind and size are repeated in each round
    #[arg(long, default_value_t = 20)]
    pub milliseconds: u32,
    /// Set one configuration value, such as train.device; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Also write the report to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// Arguments of `bench data`.
#[derive(Debug, Args)]
pub struct DataArguments {
    /// Configuration whose training images are loaded, if no folder is given
    #[command(flatten)]
    pub select: SelectionArguments,
    /// Folder with image files, also in folders below it; resized with the bicubic filter
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Side of the square [default: the input size of the model; with --images, 224]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub resolution: Option<u32>,
    /// How JPEG images are decoded: exact or fast
    #[arg(long, value_name = "MODE", default_value = "fast", value_parser = decode_mode)]
    pub decode: DecodeName,
    /// Number of threads [default: one, then one for each core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Images in a batch
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub batch_size: u64,
    /// Seconds to measure for each number of threads
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub seconds: f64,
    /// Also write the report to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// Arguments of `bench sampler`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("of").args(["counts", "zipf"]))]
pub struct SamplerArguments {
    /// Configuration whose training labels are counted, if no other source is given
    #[command(flatten)]
    pub select: SelectionArguments,
    /// File with the number of images of each class, one per line
    #[arg(long, value_name = "FILE")]
    pub counts: Option<PathBuf>,
    /// Synthetic long tail: the number of images of class r is proportional to 1/r
    #[arg(long, value_name = "IMAGES,CLASSES", value_parser = zipf)]
    pub zipf: Option<(usize, u32)>,
    /// Also write the report to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// Arguments of `bench step`.
#[derive(Debug, Args)]
pub struct StepArguments {
    /// What to train
    #[command(flatten)]
    pub select: SelectionArguments,
    /// Measured steps per round
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub steps: u16,
    /// Rounds; in each round the compared settings take turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Settings to compare: overlap, determinism, backbone, head, samples; or none
    #[arg(long, value_name = "WHAT,...", default_value = "overlap,determinism,backbone,head", value_parser = comparisons)]
    pub compare: Comparisons,
    /// Number of checkpoint snapshots to time; 0 for none
    #[arg(long, default_value_t = 5)]
    pub snapshots: u16,
    /// Compare with the same step in PyTorch instead: benches/peers/step.py, or another script that answers as it does
    #[arg(long, value_name = "SCRIPT", conflicts_with_all = ["compare", "snapshots"])]
    pub peer: Option<PathBuf>,
    /// The Python with PyTorch that runs the script of --peer
    #[arg(long, value_name = "PROGRAM", default_value = "python3", requires = "peer")]
    pub python: PathBuf,
    /// Precisions of the comparison with --peer
    #[arg(
        long,
        value_name = "WORD,...",
        default_value = "fp32,bf16",
        value_delimiter = ',',
        requires = "peer"
    )]
    pub precisions: Vec<String>,
    /// Be our own side of a comparison with --peer, whose sides share FOLDER
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub side: Option<PathBuf>,
    /// New folder for the files of the snapshots or of the peers, removed afterwards [default: in the temporary folder]
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Also write the report to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// Comparisons, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparisons(pub Vec<Comparison>);

fn zipf(text: &str) -> Result<(usize, u32), String> {
    const EXPECTED: &str = "expected IMAGES,CLASSES, such as 100000000,1000000";
    let (images, classes) = text.split_once(',').ok_or(EXPECTED)?;
    let images = images.trim().parse::<usize>().map_err(|error| format!("{EXPECTED}: {error}"))?;
    let classes = classes.trim().parse::<u32>().map_err(|error| format!("{EXPECTED}: {error}"))?;
    if classes == 0 || images < classes as usize {
        return Err(format!("{EXPECTED}: each of {classes} classes needs one of {images} images"));
    }
    Ok((images, classes))
}

fn decode_mode(text: &str) -> Result<DecodeName, String> {
    let expected = || format!("expected {}", DecodeName::expected());
    DecodeName::read(&toml::Value::String(text.to_owned())).ok_or_else(expected)
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "expected a number from 0 to 3600".to_owned())
}

fn comparisons(text: &str) -> Result<Comparisons, String> {
    if text == "none" {
        return Ok(Comparisons(Vec::new()));
    }
    let all: Result<_, _> = text.split(',').map(|name| name.trim().parse::<Comparison>()).collect();
    all.map(Comparisons).map_err(|error| format!("{error}, or none"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::{Arguments, TrainerCommand};
    use clap::Parser;

    fn bench(line: &str) -> Result<BenchCommand, String> {
        let words = ["lift-trainer", "bench"].into_iter().chain(line.split_whitespace());
        match Arguments::try_parse_from(words).map_err(|error| error.to_string())?.verb {
            Some(TrainerCommand::Bench(bench)) => Ok(bench),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn zipf_takes_images_and_classes() {
        assert_eq!(zipf("100000000,1000000"), Ok((100_000_000, 1_000_000)));
        for wrong in ["", "5", "x,1", "5,0", "4,5", "5,-1"] {
            assert!(zipf(wrong).unwrap_err().starts_with("expected IMAGES,CLASSES"), "{wrong}");
        }
    }

    #[test]
    fn comparisons_are_named_or_none() {
        let BenchCommand::Step(step) = bench("step").unwrap() else { panic!() };
        assert_eq!(step.compare.0.len(), 4);
        let BenchCommand::Step(step) = bench("step --compare none").unwrap() else { panic!() };
        assert!(step.compare.0.is_empty());
        let BenchCommand::Step(step) = bench("step --compare samples,head").unwrap() else { panic!() };
        assert_eq!(step.compare.0, [Comparison::Samples, Comparison::Head]);
        let error = bench("step --compare speed").unwrap_err();
        assert!(error.contains("no comparison is named `speed`") && error.contains("or none"), "{error}");
    }

    #[test]
    fn one_source_of_counts_is_enough() {
        assert!(bench("sampler --zipf 10,2").is_ok());
        assert!(bench("sampler --zipf 10,2 --counts FILE").is_err());
        assert!(bench("collectives --max-bytes 3").is_err());
        assert!(bench("step --steps 0").is_err());
        assert!(bench("step --python python3").is_err());
        assert!(bench("step --peer step.py --snapshots 1").is_err());
    }

    #[test]
    fn data_takes_a_folder_or_a_configuration() {
        let BenchCommand::Data(data) = bench("data --images DIR --decode exact").unwrap() else { panic!() };
        assert_eq!((data.decode, data.threads, data.seconds), (DecodeName::Exact, None, 3.0));
        assert!(bench("data -d demo --threads 2 --seconds 0.5").is_ok());
        for wrong in ["--decode quick", "--threads 0", "--seconds -1", "--seconds x", "--resolution 0"] {
            assert!(bench(&format!("data {wrong}")).is_err(), "{wrong}");
        }
    }
}
