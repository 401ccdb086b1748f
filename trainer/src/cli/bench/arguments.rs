//! What the person typed after `bench`.

use crate::engine::bench::Comparison;
use clap::{Args, Subcommand};
use protocol::command_line::Select;
use std::path::PathBuf;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Latency and bandwidth of collectives by size, over the ranks that it is started on
    Collectives(Collectives),
    /// Time to build and positions a second of every sampler, and the memory they take
    Sampler(Sampler),
    /// A training step taken apart, and the cost of settings, over the ranks that it is started on
    Step(Step),
    /// A model of step time against ranks: against steps that were measured, and for clusters of GPUs
    Scaling(Scaling),
}

/// Arguments of `bench collectives`.
#[derive(Debug, Args)]
pub struct Collectives {
    /// Largest tensor, in bytes
    #[arg(long, default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(4..))]
    pub max_bytes: u64,
    /// Rounds, of which the medians are shown
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Milliseconds that calls of one kind and size are repeated for in a round
    #[arg(long, default_value_t = 20)]
    pub milliseconds: u32,
    /// Override one value of the configuration, such as `train.device`
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// Arguments of `bench sampler`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("of").args(["counts", "zipf"]))]
pub struct Sampler {
    /// Whose training labels, if no other source of counts is given
    #[command(flatten)]
    pub select: Select,
    /// File with the number of images of each class, one a line
    #[arg(long, value_name = "FILE")]
    pub counts: Option<PathBuf>,
    /// A long tail: class r has images in proportion to 1/r
    #[arg(long, value_name = "IMAGES,CLASSES", value_parser = zipf)]
    pub zipf: Option<(usize, u32)>,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// Arguments of `bench step`.
#[derive(Debug, Args)]
pub struct Step {
    /// What to train
    #[command(flatten)]
    pub select: Select,
    /// Steps of a round that count
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub steps: u16,
    /// Rounds in which the sides of a comparison take turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// What to compare: overlap, determinism, backbone, head, samples; or none
    #[arg(long, value_name = "WHAT,...", default_value = "overlap,determinism,backbone,head", value_parser = comparisons)]
    pub compare: Comparisons,
    /// Snapshots for checkpoints to time; 0 for none
    #[arg(long, default_value_t = 5)]
    pub snapshots: u16,
    /// New folder for their files, removed afterwards [default: in the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// Comparisons, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparisons(pub Vec<Comparison>);

/// Arguments of `bench scaling`.
#[derive(Debug, Args)]
pub struct Scaling {
    /// Measured constants and step times, as `make bench` writes them [default: those of docs/scaling.md]
    #[arg(long, value_name = "FILE")]
    pub measured: Option<PathBuf>,
}

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

fn comparisons(text: &str) -> Result<Comparisons, String> {
    if text == "none" {
        return Ok(Comparisons(Vec::new()));
    }
    let all: Result<_, _> = text.split(',').map(|name| name.trim().parse::<Comparison>()).collect();
    all.map(Comparisons).map_err(|error| format!("{error}, and none"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::{Arguments, Verb};
    use clap::Parser;

    fn bench(line: &str) -> Result<Bench, String> {
        let words = ["lift-trainer", "bench"].into_iter().chain(line.split_whitespace());
        match Arguments::try_parse_from(words).map_err(|error| error.to_string())?.verb {
            Some(Verb::Bench(bench)) => Ok(bench),
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
        let Bench::Step(step) = bench("step").unwrap() else { panic!() };
        assert_eq!(step.compare.0.len(), 4);
        let Bench::Step(step) = bench("step --compare none").unwrap() else { panic!() };
        assert!(step.compare.0.is_empty());
        let Bench::Step(step) = bench("step --compare samples,head").unwrap() else { panic!() };
        assert_eq!(step.compare.0, [Comparison::Samples, Comparison::Head]);
        let error = bench("step --compare speed").unwrap_err();
        assert!(error.contains("no comparison is named `speed`") && error.contains("and none"), "{error}");
    }

    #[test]
    fn one_source_of_counts_is_enough() {
        assert!(bench("sampler --zipf 10,2").is_ok());
        assert!(bench("sampler --zipf 10,2 --counts FILE").is_err());
        assert!(bench("collectives --max-bytes 3").is_err());
        assert!(bench("step --steps 0").is_err());
    }
}
