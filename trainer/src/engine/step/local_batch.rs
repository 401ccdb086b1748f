//! A rank's part of a global batch, cut into virtual shards and micro-batches.

use tch::Tensor;

/// Samples that go through the model at once.
#[derive(Debug)]
pub struct MicroBatch {
    /// Pixels, `[n, 3, side, side]`, bytes, on the model's device.
    pub bytes: Tensor,
    /// Labels, `[n]`, int64.
    pub labels: Tensor,
}

/// A rank's part of a global batch.
#[derive(Debug, Default)]
pub struct LocalBatch {
    /// The micro-batches of each of the rank's shards.
    pub shards: Vec<Vec<MicroBatch>>,
    /// Largest number of shards of any rank and of micro-batches of any shard: every rank makes this number of passes.
    pub passes: (usize, usize),
}

impl LocalBatch {
    /// One shard, for a rank that computes alone.
    pub fn alone(parts: Vec<MicroBatch>) -> Self {
        Self { passes: (1, parts.len().max(1)), shards: vec![parts] }
    }

    /// A micro-batch of a shard; none if this rank does not have it or it has no samples.
    pub(crate) fn part(&self, shard: usize, number: usize) -> Option<&MicroBatch> {
        self.shards.get(shard)?.get(number).filter(|part| part.labels.numel() > 0)
    }
}
