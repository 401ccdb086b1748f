//! Tests of whole orders: against a plain oracle, against the official samplers' facts, statistics, refusals,
//! speed.

mod behaviour;
mod fixtures;
mod oracle;
mod refusals;
mod speed;
pub(super) mod statistics;

use super::{Order, Sampler};

/// The whole of an epoch.
fn epoch(order: &Order, epoch: u64) -> Vec<u64> {
    let mut samples = Vec::new();
    order.fill(epoch, 0..order.len(epoch), &mut samples);
    samples
}

/// Labels in class order: `counts[c]` samples of class c.
fn labels_of(counts: &[u32]) -> Vec<u32> {
    (0..).zip(counts).flat_map(|(label, &count)| (0..count).map(move |_| label)).collect()
}

/// How often each class comes.
fn class_counts(samples: &[u64], labels: &[u32], classes: usize) -> Vec<u64> {
    let mut counts = vec![0; classes];
    for &sample in samples {
        counts[labels[sample as usize] as usize] += 1;
    }
    counts
}

/// One of each sampler.
const SAMPLERS: [Sampler; 7] = [
    Sampler::Instance,
    Sampler::ClassAware { samples_per_class: 4 },
    Sampler::ClassBalanced,
    Sampler::SquareRoot,
    Sampler::RepeatFactor { threshold: 0.2 },
    Sampler::Progressive { epochs: 5 },
    Sampler::NShot { shots: 3 },
];
