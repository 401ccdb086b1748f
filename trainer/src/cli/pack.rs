//! `lift-trainer pack`: any data set into tar shards with an index.

use super::findings;
use super::work_progress::WorkProgress;
use crate::data::pack::{self, IMAGES_PER_SHARD, PRESET, PackError, PackForm, PackOptions, Packed, pack};
use crate::engine::failure::Failure;
use crate::engine::setup::sources;
use clap::Args;
use protocol::command_line::{OutputArguments, SelectionArguments};
use protocol::terminal;
use serde_json::json;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "Examples:
  lift-trainer pack -d inat2018 --set data.root=DIR --shorter-side 288 --output /fast/inat2018
  lift-trainer pack -d places_lt --set data.root=DIR --raw --shorter-side 288 --output /fast/places
  lift-trainer train -d /fast/inat2018/data.toml -m clip_vit_b16 --set model.weights=FILE";

/// Arguments of `pack`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PackArguments {
    /// Data set to pack
    #[command(flatten)]
    pub select: SelectionArguments,
    /// Folder for the packed set; the same command continues an interrupted one
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Reduce images whose shorter side is longer to this many pixels, and compress them as JPEG; images are never enlarged
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub shorter_side: Option<u32>,
    /// Quality of the JPEG files that --shorter-side writes
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u8).range(1..=100), requires = "shorter_side", conflicts_with = "raw")]
    pub quality: u8,
    /// Store decoded pixels, which take more room and no time to decode
    #[arg(long)]
    pub raw: bool,
    /// Images in a shard
    #[arg(long, value_name = "COUNT", default_value_t = IMAGES_PER_SHARD as u32, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub images_per_shard: u32,
    /// Threads; 0 uses all cores
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1024))]
    pub threads: u32,
}

impl PackArguments {
    fn form(&self) -> PackForm {
        match (self.raw, self.shorter_side) {
            (true, shorter_side) => PackForm::Raw { shorter_side },
            (false, Some(shorter_side)) => PackForm::Reduced { shorter_side, quality: self.quality },
            (false, None) => PackForm::Copied,
        }
    }
}

/// Packs a data set and prints what was packed.
pub(super) fn run(arguments: &PackArguments, output_arguments: OutputArguments) -> Result<(), Failure> {
    let config = super::resolve_for_images(&arguments.select)?.config;
    let set = sources::open_data(&config)?;
    findings::print(&set.findings, output_arguments);
    let options = PackOptions {
        form: arguments.form(),
        images_per_shard: arguments.images_per_shard as usize,
        threads: threads(arguments.threads),
        max_bad_images: usize::try_from(config.data.max_bad_images).unwrap_or(usize::MAX),
    };
    let progress = WorkProgress::start("packing", set.train.len() + set.test.len(), output_arguments.quiet);
    let packed = pack(&set, &arguments.output, options, &|count| progress.add(count));
    let seconds = progress.finish();
    print(&packed.map_err(failure)?, &arguments.output, options.form, seconds, output_arguments)
}

/// The number of threads that were asked for, or all cores.
pub(super) fn threads(wanted: u32) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        wanted => wanted as usize,
    }
}

fn failure(error: PackError) -> Failure {
    match error {
        PackError::Io { .. } | PackError::Panicked => Failure::run(error),
        error => Failure::input(error),
    }
}

fn print(
    packed: &Packed,
    output: &Path,
    form: pack::PackForm,
    seconds: f64,
    output_arguments: OutputArguments,
) -> Result<(), Failure> {
    let preset = output.join(PRESET);
    for bad in &packed.bad_images {
        terminal::say(format_args!("warning: image {bad}; it keeps its place and fails when it is read"));
    }
    let rate = packed.images as f64 / seconds.max(f64::MIN_POSITIVE);
    let printed = if output_arguments.json {
        let value = json!({
            "images": packed.images,
            "bad_images": packed.bad_images.len(),
            "shards": packed.shards,
            "kept_shards": packed.kept_shards,
            "bytes": packed.bytes,
            "form": form.to_string(),
            "seconds": seconds,
            "images_per_second": rate,
            "preset": preset,
        });
        terminal::print_json(&format!("{value:#}\n"))
    } else {
        let kept = match packed.kept_shards {
            0 => String::new(),
            kept => format!(" ({kept} of them were there)"),
        };
        terminal::print(&format!(
            "packed {} images ({form}) into {} shards{kept} of {:.1} MiB in {seconds:.1} s, {rate:.0} img/s\n  -d {}\n",
            packed.images,
            packed.shards,
            packed.bytes as f64 / f64::from(1 << 20),
            terminal::shell_words(&[preset.as_os_str()]),
        ))
    };
    printed.map(drop).map_err(Failure::run)
}
