//! The cost of sample orders: build time, positions per second and core, memory.

use super::memory::{Resident, forget_peak};
use super::statistics::median;
use crate::data::order::{Order, OrderError, Sampler};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::time::Instant;

/// Positions per request, and number of requests.
const BLOCK: u64 = 256;
const BLOCKS: u64 = 5_000;
/// Positions that are requested one by one.
const LONE: u64 = 100_000;
/// An order that takes no longer than this is built several times.
const SHORT_BUILD: f64 = 1.0;
const BUILDS: usize = 5;
/// Rounds in which the samplers take turns.
const ROUNDS: usize = 3;

/// Labels to draw from.
#[derive(Debug)]
pub struct Labels {
    /// Class of each image.
    pub labels: Vec<u32>,
    /// Number of classes.
    pub classes: usize,
}

impl Labels {
    /// Labels with the number of images per class in `counts`, in a mixed order.
    pub fn of_counts(counts: &[u32]) -> Self {
        let labels: Vec<u32> = (0..)
            .zip(counts)
            .flat_map(|(class, &count)| std::iter::repeat_n(class, count as usize))
            .collect();
        Self { labels: mixed(labels), classes: counts.len() }
    }

    /// Class number `r` has a share of the images in proportion to 1 / (r + 1), and at least one image.
    pub fn zipf(images: usize, classes: u32) -> Self {
        let harmonic: f64 = (1..=classes).map(|rank| 1.0 / f64::from(rank)).sum();
        let mut labels = Vec::with_capacity(images);
        // Starts with the rarest class, so that rounding up reduces the most frequent class.
        for rank in (1..=classes).rev() {
            let count = (images as f64 / harmonic / f64::from(rank)).max(1.0) as usize;
            labels.extend(std::iter::repeat_n(rank - 1, count.min(images - labels.len())));
        }
        labels.resize(images, 0);
        Self { labels: mixed(labels), classes: classes as usize }
    }
}

fn mixed(mut labels: Vec<u32>) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for i in (1..labels.len()).rev() {
        labels.swap(i, random.random_range(0..=i));
    }
    labels
}

/// Limits of an order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OrderLimits {
    /// Seconds to build.
    pub build_seconds: f64,
    /// Smallest number of positions per second and core.
    pub positions_per_second: Option<f64>,
    /// Memory beyond the labels.
    pub bytes_beyond_labels: Option<u64>,
    /// Memory of the process, including labels.
    pub process_bytes: Option<u64>,
}

impl OrderLimits {
    /// The limits of data sets of this size; none between the two sizes with limits.
    pub fn of(images: usize) -> Option<Self> {
        match images {
            ..=1_000_000 => Some(Self {
                build_seconds: 0.1,
                positions_per_second: Some(5e6),
                bytes_beyond_labels: Some(16_000_000),
                process_bytes: None,
            }),
            50_000_000.. => Some(Self {
                build_seconds: 15.0,
                positions_per_second: None,
                bytes_beyond_labels: None,
                process_bytes: Some(1_000_000_000),
            }),
            _ => None,
        }
    }

    fn hold(&self, row: &SamplerRow) -> bool {
        row.build_seconds < self.build_seconds
            && self.positions_per_second.is_none_or(|least| row.positions_per_second >= least)
            && self.bytes_beyond_labels.is_none_or(|most| row.peak_bytes.unwrap_or(row.own_bytes) < most)
    }
}

/// Figures of one sampler.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SamplerRow {
    /// Its name in `data.sampler`.
    pub sampler: &'static str,
    /// Its setting, if it has one.
    pub setting: Option<String>,
    /// Seconds to build it.
    pub build_seconds: f64,
    /// Positions per second and core, in blocks of the size of a batch.
    pub positions_per_second: f64,
    /// Nanoseconds for one position by itself.
    pub lone_position_nanoseconds: f64,
    /// Its own memory, as it reports.
    pub own_bytes: u64,
    /// Peak resident memory while it was built and used, beyond that of the process with only the labels.
    pub peak_bytes: Option<u64>,
    /// Whether it is within the limits of this size; none if there are no limits.
    pub within_limits: Option<bool>,
}

/// Figures of all samplers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SamplerReport {
    /// Source of the class counts.
    pub source: String,
    /// Images.
    pub images: usize,
    /// Classes.
    pub classes: usize,
    /// One row per sampler.
    pub samplers: Vec<SamplerRow>,
    /// Peak resident memory of the process, including labels.
    pub process_bytes: Option<u64>,
    /// The limits.
    pub limits: Option<OrderLimits>,
    /// Whether all limits are met; none if there are no limits.
    pub within_limits: Option<bool>,
}

/// One of each sampler; class-aware also with visits of one image, its slowest setting.
fn samplers(images: usize) -> [Sampler; 8] {
    // A threshold at which some classes are repeated, whatever the size.
    let threshold = if images < 10_000_000 { 0.001 } else { 1e-6 };
    [
        Sampler::Instance,
        Sampler::ClassAware { samples_per_class: 4 },
        Sampler::ClassAware { samples_per_class: 1 },
        Sampler::ClassBalanced,
        Sampler::SquareRoot,
        Sampler::RepeatFactor { threshold },
        Sampler::Progressive { epochs: 10 },
        Sampler::NShot { shots: 16 },
    ]
}

/// Measures every sampler over the labels.
pub fn measure(source: String, labels: &Labels) -> Result<SamplerReport, OrderError> {
    let images = labels.labels.len();
    let before = Resident::read();
    let limits = OrderLimits::of(images);
    let mut process_bytes = before.map(|resident| resident.now);
    let mut rows = Vec::new();
    for sampler in samplers(images) {
        forget_peak();
        let mut row = row(sampler, labels)?;
        let after = Resident::read();
        row.peak_bytes = before.zip(after).map(|(before, after)| after.peak.saturating_sub(before.now));
        row.within_limits = limits.map(|limits| limits.hold(&row));
        process_bytes = process_bytes.max(after.map(|after| after.peak));
        rows.push(row);
    }
    let within_limits = limits.map(|limits| {
        let fits = |most| process_bytes.is_none_or(|bytes| bytes < most);
        rows.iter().all(|row| row.within_limits == Some(true)) && limits.process_bytes.is_none_or(fits)
    });
    let classes = labels.classes;
    Ok(SamplerReport { source, images, classes, samplers: rows, process_bytes, limits, within_limits })
}

fn row(sampler: Sampler, labels: &Labels) -> Result<SamplerRow, OrderError> {
    let build = || {
        let start = Instant::now();
        let order = Order::new(sampler, &labels.labels, labels.classes, 3)?;
        Ok((order, start.elapsed().as_secs_f64()))
    };
    let (order, first) = build()?;
    let mut builds = vec![first];
    while first < SHORT_BUILD && builds.len() < BUILDS {
        builds.push(build()?.1);
    }
    let rates: Vec<f64> = (0..ROUNDS).map(|_| positions_per_second(&order)).collect();
    Ok(SamplerRow {
        sampler: sampler.name(),
        setting: setting(sampler),
        build_seconds: median(&builds),
        positions_per_second: median(&rates),
        lone_position_nanoseconds: lone_position(&order) * 1e9,
        own_bytes: order.memory_bytes() as u64,
        peak_bytes: None,
        within_limits: None,
    })
}

fn setting(sampler: Sampler) -> Option<String> {
    match sampler {
        Sampler::ClassAware { samples_per_class } => Some(format!("{samples_per_class} a visit")),
        Sampler::RepeatFactor { threshold } => Some(format!("threshold {threshold}")),
        Sampler::Progressive { epochs } => Some(format!("{epochs} epochs")),
        Sampler::NShot { shots } => Some(format!("{shots} shots")),
        Sampler::Instance | Sampler::ClassBalanced | Sampler::SquareRoot => None,
    }
}

/// Reads blocks at any positions in the epochs of a run.
fn positions_per_second(order: &Order) -> f64 {
    let (mut samples, mut sum, mut positions) = (Vec::new(), 0_u64, 0);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let clock = CoreClock::start();
    for i in 0..BLOCKS {
        let (epoch, len) = (i % 50, order.len(i % 50));
        let block = BLOCK.min(len);
        let first = random.random_range(0..=len - block);
        order.fill(epoch, first..first + block, &mut samples);
        sum = sum.wrapping_add(samples.iter().sum());
        positions += block;
    }
    std::hint::black_box(sum);
    positions as f64 / clock.seconds()
}

/// Seconds for a position by itself.
fn lone_position(order: &Order) -> f64 {
    let clock = CoreClock::start();
    let at = |i: u64| order.sample_at(i % 9, i * 7919 % order.len(i % 9));
    std::hint::black_box((0..LONE).map(at).fold(0, u64::wrapping_add));
    clock.seconds() / LONE as f64
}

/// CPU time of this thread; wall-clock time if the system does not report it.
struct CoreClock {
    start: Instant,
    had: Option<f64>,
}

impl CoreClock {
    fn start() -> Self {
        Self { start: Instant::now(), had: Self::had() }
    }

    fn had() -> Option<f64> {
        let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        statistics.split(' ').next()?.parse::<f64>().ok().map(|nanoseconds| nanoseconds / 1e9)
    }

    fn seconds(&self) -> f64 {
        let had = self.had.zip(Self::had()).map(|(before, now)| now - before);
        had.filter(|&had| had > 0.0).unwrap_or_else(|| self.start.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_the_counts_they_are_made_of() {
        let Labels { labels, classes } = Labels::of_counts(&[3, 0, 2]);
        let count = |class| labels.iter().filter(|&&label| label == class).count();
        assert_eq!((classes, count(0), count(1), count(2)), (3, 3, 0, 2));
    }

    #[test]
    fn zipf_classes_have_at_least_one_image_and_the_first_the_most() {
        let Labels { labels, classes } = Labels::zipf(10_000, 1000);
        assert_eq!((labels.len(), classes), (10_000, 1000));
        let mut counts = vec![0; 1000];
        for label in labels {
            counts[label as usize] += 1;
        }
        assert!(counts.iter().all(|&count| count >= 1) && counts.iter().all(|&count| count <= counts[0]));
    }

    #[test]
    fn every_sampler_has_a_row() {
        let report = measure("counts".to_owned(), &Labels::of_counts(&[30, 5, 1])).unwrap();
        assert_eq!(report.samplers.len(), 8);
        for name in Sampler::NAMES {
            assert!(report.samplers.iter().any(|row| row.sampler == name), "{name}");
        }
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!(value["images"], 36);
        assert!(value["samplers"][0]["positions_per_second"].as_f64().unwrap() > 0.0);
        assert!(value["limits"]["build_seconds"].as_f64().unwrap() > 0.0);
    }

    #[test]
    fn limits_depend_on_the_size() {
        assert_eq!(OrderLimits::of(437_513).unwrap().build_seconds, 0.1);
        assert_eq!(OrderLimits::of(100_000_000).unwrap().process_bytes, Some(1_000_000_000));
        assert_eq!(OrderLimits::of(10_000_000), None);
    }
}
