//! Ranges of single values.

use super::error::ConfigError;
use super::kind::describe;
use super::layers::Entry;
use super::{Config, Imbalance};
use std::collections::BTreeMap;

/// Side in pixels above which an image cannot be meant: memory grows with its square.
const MAX_RESOLUTION: u32 = 4096;
/// Attention heads above which a number cannot be meant.
const MAX_HEADS: u32 = 256;
/// Threads above which a count cannot be meant.
const MAX_THREADS: u32 = 1024;
/// Batches ahead, images at once: above this the number cannot be meant, and sizes in bytes stay far from
/// overflow.
const MAX_IMAGES: u64 = 1 << 20;
/// Epochs or steps of a run, so that their product with a batch stays far from overflow.
const MAX_COUNT: u64 = 1 << 40;
/// A batch cut into more shards cannot be meant.
const MAX_SHARDS: u64 = 1 << 16;
/// Ten years: above this no clock can be set.
const MAX_SECONDS: u64 = 315_360_000;

/// A key, whether its value is good, and what is expected.
type Range = (&'static str, bool, &'static str);

/// Refuses the first value outside its range.
pub(super) fn check(config: &Config, entries: &BTreeMap<String, Entry>) -> Result<(), ConfigError> {
    let ranges = data(config).into_iter().chain(train(config)).chain(rest(config));
    for (key, good, expected) in ranges {
        if !good && let Some(entry) = entries.get(key) {
            let (found, origin) = (describe(&entry.value), entry.origin.clone());
            return Err(ConfigError::OutOfRange { key: key.to_owned(), expected, found, origin });
        }
    }
    Ok(())
}

fn data(config: &Config) -> [Range; 6] {
    let data = &config.data;
    let ratio = match data.imbalance {
        Imbalance::None => true,
        Imbalance::Ratio(ratio) => ratio >= 1.0,
    };
    let share = data.repeat_threshold > 0.0 && data.repeat_threshold <= 1.0;
    [
        ("data.imbalance", ratio, "at least 1, or \"none\""),
        ("data.samples_per_class", data.samples_per_class >= 1, "at least 1"),
        ("data.repeat_threshold", share, "above 0 and at most 1"),
        ("data.shots", data.shots >= 1, "at least 1"),
        ("data.workers", data.workers <= MAX_THREADS, "at most 1024"),
        ("data.prefetch", (1..=1024).contains(&data.prefetch), "from 1 to 1024"),
    ]
}

fn train(config: &Config) -> [Range; 11] {
    let train = &config.train;
    let shards = train.virtual_shards.is_power_of_two() && train.virtual_shards <= MAX_SHARDS;
    [
        ("train.epochs", train.epochs <= MAX_COUNT, "at most 2^40"),
        ("train.batch_size", (1..=MAX_IMAGES).contains(&train.batch_size), "from 1 to 1048576"),
        ("train.micro_batch_size", (1..=MAX_IMAGES).contains(&train.micro_batch_size), "from 1 to 1048576"),
        ("train.learning_rate", train.learning_rate > 0.0, "above 0"),
        ("train.momentum", (0.0..1.0).contains(&train.momentum), "at least 0 and below 1"),
        ("train.weight_decay", train.weight_decay >= 0.0, "at least 0"),
        ("train.max_steps", train.max_steps <= MAX_COUNT, "at most 2^40"),
        ("train.threads", train.threads <= MAX_THREADS, "at most 1024"),
        ("train.virtual_shards", shards, "a power of two, at most 65536"),
        ("train.max_non_finite", train.max_non_finite <= MAX_COUNT, "at most 2^40"),
        ("train.log_every", train.log_every >= 1, "at least 1"),
    ]
}

fn rest(config: &Config) -> [Range; 17] {
    let Config { model, tuner, head, loss, eval, checkpoint, distributed, .. } = config;
    let one_place = head.prompt.matches("{}").count() == 1;
    let buckets = distributed.bucket_megabytes > 0.0 && distributed.bucket_megabytes <= 1e6;
    let seconds = (1..=MAX_SECONDS).contains(&distributed.timeout_seconds);
    [
        ("model.heads", model.heads <= MAX_HEADS, "at most 256"),
        ("model.resolution", (1..=MAX_RESOLUTION).contains(&model.resolution), "from 1 to 4096"),
        ("model.std", model.std.iter().all(|std| *std > 0.0), "3 numbers above 0"),
        ("tuner.adapter_dim", tuner.adapter_dim <= 1 << 20, "at most 1048576"),
        ("head.scale", head.scale > 0.0, "above 0"),
        ("head.shots", head.shots >= 1, "at least 1"),
        ("head.prompt", one_place, "a sentence with one {} for the class name"),
        ("loss.tau", loss.tau >= 0.0, "at least 0"),
        ("eval.batch_size", (1..=MAX_IMAGES).contains(&eval.batch_size), "from 1 to 1048576"),
        ("checkpoint.every_steps", checkpoint.every_steps <= MAX_COUNT, "at most 2^40"),
        ("checkpoint.every_seconds", (0.0..=1e8).contains(&checkpoint.every_seconds), "from 0 to 100000000"),
        ("checkpoint.keep", (1..=1000).contains(&checkpoint.keep), "from 1 to 1000"),
        ("checkpoint.max_failures", (1..=1000).contains(&checkpoint.max_failures), "from 1 to 1000"),
        ("distributed.timeout_seconds", seconds, "from 1 to 315360000"),
        (
            "distributed.stall_seconds",
            (0.1..=1e8).contains(&distributed.stall_seconds),
            "from 0.1 to 100000000",
        ),
        ("distributed.check_every_steps", distributed.check_every_steps <= MAX_COUNT, "at most 2^40"),
        ("distributed.bucket_megabytes", buckets, "above 0 and at most 1000000"),
    ]
}
