//! Resampling with 16-bit numbers, for results near those of the exact passes.
//!
//! A level less 128 has 8 binary places, a weight 14, and the upper half of their product 6: so one instruction
//! multiplies twice as many pixels as with 32 bits. Columns are always resampled first, 32 rows of the result at a time.
//! Between the passes levels are not rounded to whole numbers, and stay in the caches.
//!
//! Arrays of sums are read by reference: an iterator over their values would keep them in memory.

#![expect(
    clippy::inline_always,
    reason = "a function that is not inlined is not compiled for the instructions of its caller"
)]

use super::kernel::{Kernel, WEIGHT_PLACES};
use super::passes::{self, write_rows};
use super::transpose::transposed;
use super::{Axis, Crop, Filter, Planes};
use multiversion::multiversion;

/// Rows of the result that are computed together.
const ROWS: usize = 32;

/// Binary places of a level, and of a sum of products.
const LEVEL_PLACES: u32 = 8;
const SUM_PLACES: u32 = LEVEL_PLACES + WEIGHT_PLACES - 16;

/// What is subtracted from levels, so that they have a sign as weights have.
const MIDDLE: i16 = 128;

/// Limit on the weights of a place. Each product is rounded down; for more than so many that could be seen.
const MOST_WEIGHTS: usize = 32;

/// Values of one row, or of one column of [`ROWS`] rows, in the vectors of the newest processors.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Lanes([i16; ROWS]);

const NONE: Lanes = Lanes([0; ROWS]);

/// Vectors that are summed in registers.
const BLOCK: usize = 4;

/// Resamples images of `C` bytes a pixel one after the other with the same buffers.
#[derive(Debug, Default)]
pub(super) struct FastPasses<const C: usize> {
    columns: Kernel<i16>,
    rows: Kernel<i16>,
    /// Rows of the source.
    source: Vec<Lanes>,
    /// Rows of the result, with the columns of the source.
    lines: Vec<Lanes>,
    /// Their columns.
    turned: Vec<Lanes>,
    resampled: Vec<[[u8; ROWS]; C]>,
}

impl<const C: usize> FastPasses<C> {
    /// Computes the weights. False if the exact passes must be taken.
    pub(super) fn prepare(&mut self, source: Crop<C>, columns: Axis, rows: Axis, filter: Filter) -> bool {
        self.columns.prepare(source.across, columns, filter);
        self.rows.prepare(source.down, rows, filter);
        self.columns.most().max(self.rows.most()) <= MOST_WEIGHTS
    }

    /// Resamples `source` with the prepared weights.
    pub(super) fn run(&mut self, source: Crop<C>, flip: bool, target: &mut Planes) {
        let (x, end) = self.columns.reach();
        let values = (end - x) * C;
        let stride = values.div_ceil(ROWS).next_multiple_of(BLOCK);
        self.lines.resize(ROWS * stride, NONE);
        self.turned.resize(stride * ROWS, NONE);
        self.resampled.resize(self.columns.len().next_multiple_of(passes::ROWS), [[0; ROWS]; C]);
        for y in (0..self.rows.len()).step_by(ROWS) {
            let count = ROWS.min(self.rows.len() - y);
            let (first, _) = self.rows.weights(y);
            let (last, weights) = self.rows.weights(y + count - 1);
            self.source.resize((last + weights.len() - first) * stride, NONE);
            for (row, target) in self.source.chunks_exact_mut(stride).enumerate() {
                widen(&source.from(x, first + row)[..values], target);
            }
            for (row, target) in self.lines.chunks_exact_mut(stride).take(count).enumerate() {
                let (start, weights) = self.rows.weights(y + row);
                weigh_lines(&self.source[(start - first) * stride..], stride, weights, target);
            }
            turn(&self.lines, stride, &mut self.turned);
            weigh_pixels(&self.turned, x, &self.columns, flip, &mut self.resampled);
            to_rows(&self.resampled, target, (y, count));
        }
    }
}

/// Converts a row.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn widen(pixels: &[u8], target: &mut [Lanes]) {
    let (blocks, rest) = pixels.as_chunks::<ROWS>();
    let mut target = target.iter_mut();
    for (block, target) in blocks.iter().zip(&mut target) {
        centre(block, target);
    }
    if let Some(target) = target.next() {
        centre(rest, target);
    }
}

#[inline(always)]
fn centre(levels: &[u8], target: &mut Lanes) {
    for (target, &level) in target.0.iter_mut().zip(levels) {
        *target = (i16::from(level) - MIDDLE) << LEVEL_PLACES;
    }
}

/// A weighted sum of lines of `stride` vectors.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn weigh_lines(lines: &[Lanes], stride: usize, weights: &[i16], target: &mut [Lanes]) {
    for (block, target) in target.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        let mut sums = [Lanes([start_of(weights); ROWS]); BLOCK];
        for (line, &weight) in weights.iter().enumerate() {
            let Some(values) = lines[line * stride + block * BLOCK..].first_chunk::<BLOCK>() else { break };
            for (sums, values) in sums.iter_mut().zip(values) {
                add(&mut sums.0, &values.0, weight);
            }
        }
        for (target, sums) in target.iter_mut().zip(&sums) {
            for (target, &sum) in target.0.iter_mut().zip(&sums.0) {
                let level = sum.clamp(-MIDDLE << SUM_PLACES, (255 - MIDDLE) << SUM_PLACES);
                *target = level << (LEVEL_PLACES - SUM_PLACES);
            }
        }
    }
}

/// Transposes lines of `stride` vectors.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn turn(lines: &[Lanes], stride: usize, columns: &mut [Lanes]) {
    const SIDE: usize = 8;
    for (at, columns) in columns.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
        for left in (0..ROWS).step_by(SIDE) {
            for top in (0..ROWS).step_by(SIDE) {
                let mut square = [[0; SIDE]; SIDE];
                for (row, line) in square.iter_mut().zip(lines[top * stride + at..].iter().step_by(stride)) {
                    row.copy_from_slice(&line.0[left..left + SIDE]);
                }
                for (row, column) in transposed(square).iter().zip(&mut columns[left..]) {
                    column.0[top..top + SIDE].copy_from_slice(row);
                }
            }
        }
    }
}

/// The weighted sums of pixels, each pixel being its channels in all rows.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn weigh_pixels<const C: usize>(
    columns: &[Lanes],
    first: usize,
    kernel: &Kernel<i16>,
    flip: bool,
    resampled: &mut [[[u8; ROWS]; C]],
) {
    let pixels = columns.as_chunks::<C>().0;
    let places = kernel.len();
    for place in 0..places {
        let (start, weights) = kernel.weights(place);
        let start_of_sums = start_of(weights) + (MIDDLE << SUM_PLACES) + (1 << (SUM_PLACES - 1));
        let mut sums = [Lanes([start_of_sums; ROWS]); C];
        for (pixel, &weight) in pixels[start - first..].iter().zip(weights) {
            for (sums, values) in sums.iter_mut().zip(pixel) {
                add(&mut sums.0, &values.0, weight);
            }
        }
        let place = if flip { places - 1 - place } else { place };
        for (target, sums) in resampled[place].iter_mut().zip(&sums) {
            for (target, &sum) in target.iter_mut().zip(&sums.0) {
                *target = (sum >> SUM_PLACES).clamp(0, 255) as u8;
            }
        }
    }
}

/// Transposes columns into `count` rows of the planes, from row `y` on.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn to_rows<const C: usize>(columns: &[[[u8; ROWS]; C]], target: &mut Planes, (y, count): (usize, usize)) {
    for first in (0..count).step_by(passes::ROWS) {
        write_rows(columns, first, target, (y + first, passes::ROWS.min(count - first)));
    }
}

/// Where a sum starts: products are rounded down, by half a unit in the mean.
#[inline(always)]
fn start_of(weights: &[i16]) -> i16 {
    weights.len() as i16 / 2
}

/// Adds the upper halves of products.
#[inline(always)]
fn add(sums: &mut [i16; ROWS], values: &[i16; ROWS], weight: i16) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        let product = i32::from(value) * i32::from(weight);
        *sum = sum.saturating_add((product >> 16) as i16);
    }
}
