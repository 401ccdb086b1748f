//! Time and memory at real and at future sizes. Printed with `--nocapture`; limits are held against release
//! builds only: `cargo test --release order::tests::speed -- --include-ignored --nocapture --test-threads 1`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::super::key::{Key, KeyPurpose, below};
use super::super::{Order, Sampler};
use super::{SAMPLERS, labels_of};

/// Seconds that this thread has run, whatever else shares its core; wall-clock time where the system does not
/// tell.
fn thread_seconds(since: Instant) -> f64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let run = statistics.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok());
    run.map_or_else(|| since.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}

/// Positions a second of one core, over blocks of a batch's size spread over the run.
fn positions_per_second(order: &Order, blocks: u64, block: u64) -> f64 {
    let (mut samples, mut sum) = (Vec::new(), 0);
    let start = Instant::now();
    let before = thread_seconds(start);
    for i in 0..blocks {
        let (epoch, len) = (i % 50, order.len(i % 50));
        let block = block.min(len);
        let first = below(Key::new(7, KeyPurpose::Draw).with(i).bits(), len - block + 1);
        order.fill(epoch, first..first + block, &mut samples);
        sum += samples.iter().sum::<u64>();
    }
    let rate = (blocks * block.min(order.len(0))) as f64 / (thread_seconds(start) - before);
    assert!(sum > 0);
    rate
}

/// The most memory the process has held so far, in MB; 0 where the system does not tell.
fn peak_megabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|kb| kb.trim().trim_end_matches(" kB").parse::<f64>().ok()).map_or(0.0, |kb| kb / 1e3)
}

fn shuffle(labels: &mut [u32]) {
    for i in (1..labels.len()).rev() {
        labels.swap(i, below(Key::new(1, KeyPurpose::Draw).with(i as u64).bits(), i as u64 + 1) as usize);
    }
}

/// One of each sampler, and `class_aware` with visits of one image, its slowest setting.
fn samplers(threshold: f64) -> impl Iterator<Item = Sampler> {
    let plain = SAMPLERS.into_iter().filter(|sampler| !matches!(sampler, Sampler::RepeatFactor { .. }));
    plain.chain([Sampler::ClassAware { samples_per_class: 1 }, Sampler::RepeatFactor { threshold }])
}

/// `limits`: seconds to build, positions a second, bytes beyond the labels.
fn measure(sampler: Sampler, labels: &[u32], classes: usize, limits: Option<(f64, f64, usize)>) {
    let by_one = sampler == Sampler::ClassAware { samples_per_class: 1 };
    let name = if by_one { "class_aware, 1" } else { sampler.name() };
    let start = Instant::now();
    let order = Order::new(sampler, labels, classes, 3).expect("valid");
    let built = start.elapsed().as_secs_f64();
    let blocks = if cfg!(debug_assertions) { 400 } else { 20_000 };
    // The best of three: other processes share caches and memory.
    let rate = (0..3).map(|_| positions_per_second(&order, blocks, 256)).fold(0.0, f64::max);
    let single = Instant::now();
    let singles = 100_000;
    let sum: u64 = (0..singles).map(|i| order.sample_at(i % 9, i * 7919 % order.len(i % 9))).sum();
    let single = single.elapsed().as_secs_f64() / singles as f64 * 1e9;
    assert!(sum > 0);
    eprintln!(
        "{:>14}: built in {:.1} ms, {:.1} million positions/s, {single:.0} ns a lone position, \
         {:.2} MB beyond the labels",
        name,
        built * 1e3,
        rate / 1e6,
        order.memory_bytes() as f64 / 1e6,
    );
    if let (Some((seconds, positions, bytes)), false) = (limits, cfg!(debug_assertions)) {
        assert!(
            built < seconds && rate > positions && order.memory_bytes() < bytes,
            "{sampler:?} is over a limit"
        );
    }
}

#[test]
fn inaturalist_2018() {
    let root = std::env::var_os("LIFT_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let Ok(list) = std::fs::read_to_string(root.join("lists/inat2018_counts.txt")) else {
        eprintln!("skipped: inaturalist_2018 (LIFT_DATA not found)");
        return;
    };
    let counts: Vec<u32> = list.lines().map(|line| line.trim().parse().expect("a count")).collect();
    let mut labels = labels_of(&counts);
    shuffle(&mut labels);
    assert_eq!((counts.len(), labels.len()), (8142, 437_513));
    for sampler in samplers(0.001) {
        measure(sampler, &labels, counts.len(), Some((0.1, 5e6, 16 << 20)));
    }
}

#[test]
#[ignore = "needs a gigabyte and a release build"]
fn a_hundred_million_images_in_a_million_classes() {
    let classes = 1_000_000;
    let harmonic: f64 = (1..=classes).map(|rank| 1.0 / f64::from(rank)).sum();
    let mut labels = Vec::with_capacity(100_000_000);
    for rank in 1..=classes {
        let count = (1e8 / harmonic / f64::from(rank)).max(1.0) as usize;
        labels.extend(std::iter::repeat_n(rank - 1, count));
    }
    labels.resize(100_000_000, 0);
    shuffle(&mut labels);
    for sampler in samplers(1e-6) {
        // Visits of one image miss the cache each time: near the limit, and below it on a busy machine.
        let required = matches!(sampler, Sampler::Instance | Sampler::ClassAware { samples_per_class: 4 });
        measure(sampler, &labels, classes as usize, required.then_some((15.0, 5e6, 600_000_000)));
    }
    let peak = peak_megabytes();
    eprintln!("peak memory of the process: {peak:.0} MB");
    assert!(peak < 1000.0, "{peak} MB");
}
