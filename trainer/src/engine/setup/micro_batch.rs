//! `train.micro_batch_size = "auto"`: how many images fit into memory at once, from forward passes of a few.

use crate::aten::bytes_of_cpu_tensors;
use crate::config::{AccumulationName, Config, MicroBatchSize};
use crate::engine::failure::Failure;
use crate::engine::gpu::memory::{allocated, room};
use crate::engine::rank::Rank;
use crate::engine::step::pass::Pass;
use collectives::ReduceOp;
use protocol::memory;
use tch::{Device, Kind, Tensor};

/// Share of the free memory that a pass may fill.
const FILLED: f64 = 0.75;
/// Two passes that differ by this much, or by this share of the free memory, tell what an image needs.
const CLEAR: u64 = 32 << 20;
const CLEAR_SHARE: u64 = 16;

/// Whether the number must be found.
pub fn is_wanted(config: &Config) -> Result<bool, Failure> {
    let wanted = config.train.micro_batch_size == MicroBatchSize::Auto;
    if wanted && config.train.accumulation == AccumulationName::Official {
        return Err(Failure::input(
            "with train.accumulation=official the results depend on train.micro_batch_size, found auto\nhint: set train.micro_batch_size to a number",
        )
        .on_all_ranks());
    }
    Ok(wanted)
}

/// The largest number of images, at most `most`, with which a step fits into the free memory of every rank, and why.
/// Collective.
pub fn that_fits(config: &Config, rank: &Rank, pass: Pass<'_>, most: u64) -> Result<(u64, String), Failure> {
    let probe =
        Probe { rank, pass, side: i64::from(config.model.resolution), recomputes: config.train.recompute };
    // Without a figure, it is as if there were room for everything.
    let free = over_ranks(rank, free_bytes(rank).unwrap_or(u64::MAX), ReduceOp::Min)?;
    // A pass of a new size runs without a graph, beside the memory that the graphs keep.
    let free = if config.train.cuda_graphs { free / 2 } else { free };
    let per_image = probe.bytes_per_image(most, CLEAR.min(free / CLEAR_SHARE))?;
    let images = images(free, per_image, most);
    let why = format!(
        "note: train.micro_batch_size: {images} of {most}, because an image takes {:.1} MB of {:.1} GB that are free",
        per_image as f64 / 1e6,
        free as f64 / 1e9
    );
    Ok((images, why))
}

/// The whole share of a rank, or a power of two.
fn images(free: u64, per_image: u64, most: u64) -> u64 {
    let fitting = (FILLED * free as f64 / per_image.max(1) as f64) as u64;
    if fitting >= most { most } else { 1 << fitting.max(1).ilog2() }
}

/// Free memory of this rank's device.
fn free_bytes(rank: &Rank) -> Option<u64> {
    match rank.device {
        Device::Cpu => memory::look().usable_bytes().map(|bytes| bytes / rank.local_size as u64),
        device => room(device),
    }
}

/// The least or the greatest number of all ranks. Collective.
fn over_ranks(rank: &Rank, number: u64, op: ReduceOp) -> Result<u64, Failure> {
    let mut numbers = [i64::try_from(number).unwrap_or(i64::MAX)];
    rank.control.all_reduce(&mut numbers, op)?;
    Ok(numbers[0].unsigned_abs())
}

struct Probe<'a> {
    rank: &'a Rank,
    pass: Pass<'a>,
    side: i64,
    recomputes: bool,
}

impl Probe<'_> {
    /// Bytes that a step needs for each image, besides what it needs for any number.
    fn bytes_per_image(&self, most: u64, clear: u64) -> Result<u64, Failure> {
        let (mut images, mut before) = (1, self.bytes(1)?);
        loop {
            let after = self.bytes(2 * images)?;
            let difference = over_ranks(self.rank, after.saturating_sub(before), ReduceOp::Max)?;
            if difference >= clear || 2 * images >= most {
                return Ok(difference.div_ceil(images));
            }
            (images, before) = (2 * images, after);
        }
    }

    /// Bytes of a step on so many images: what the forward pass keeps, the gradients of one block and what computes them, and the
    /// block itself if it is computed again.
    fn bytes(&self, images: u64) -> Result<u64, Failure> {
        let kept = self.kept(self.pass.recomputing(false), images)?;
        let block = kept / self.pass.blocks_kept().max(1);
        Ok(if self.recomputes {
            self.kept(self.pass.recomputing(true), images)? + 3 * block
        } else {
            kept + 2 * block
        })
    }

    fn kept(&self, pass: Pass<'_>, images: u64) -> Result<u64, Failure> {
        let device = self.rank.device;
        let pixels = Tensor::zeros([images as i64, 3, self.side, self.side], (Kind::Uint8, device));
        let in_use = || allocated(device).unwrap_or_else(|| bytes_of_cpu_tensors() as u64);
        let before = in_use();
        let tape = pass.forward(Some(&pixels)).map_err(Failure::run)?;
        let kept = in_use().saturating_sub(before);
        drop(tape);
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_batch_is_a_power_of_two() {
        assert_eq!(images(1000, 10, 50), 50);
        assert_eq!(images(1000, 10, 75), 75);
        assert_eq!(images(1000, 10, 76), 64);
        assert_eq!(images(1000, 500, 8), 1);
        assert_eq!(images(10, 500, 8), 1);
        assert_eq!(images(100, 0, 8), 8);
    }
}
