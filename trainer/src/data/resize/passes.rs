//! The two passes of a resample, in a form that compilers turn into SIMD instructions.
//!
//! Each function exists several times in the program, for the instructions of newer processors, and the best one is
//! taken at run time. All give the same bytes, because the sums are integers.
//!
//! The pass along rows takes 16 rows at a time. Their bytes are transposed first, so that one vector holds the same
//! byte of 16 rows, and a weight multiplies whole vectors without shuffles. The result is transposed back, channel by
//! channel: this also separates the channels and mirrors the rows at no cost.
//!
//! Loops of 16 steps are unrolled before they are turned into vectors, which then fails, so loops have 32 or more.

#![expect(
    clippy::inline_always,
    reason = "a function that is not inlined is not compiled for the instructions of its caller"
)]

use super::kernel::Kernel;
use super::transpose::transposed;
use super::{PRECISION, Planes};
use multiversion::multiversion;

/// Rows that are resampled together.
pub(super) const ROWS: usize = 16;

/// The same byte of [`ROWS`] rows.
type Column = [u8; ROWS];

/// One half in the weights' places.
const HALF: i32 = 1 << (PRECISION - 1);

/// Values of a line that are summed in registers.
const BLOCK: usize = 32;

/// Buffers of [`across`].
#[derive(Debug, Default)]
pub(super) struct Columns {
    source: Vec<Column>,
    resampled: Vec<[Column; 3]>,
}

/// Resamples rows of interleaved pixels along the rows, and writes them as planes from row `y` on. The rows begin at
/// the first pixel that the kernel draws on.
pub(super) fn across(
    rows: &[&[u8]; ROWS],
    kernel: &Kernel<i32>,
    flip: bool,
    buffers: &mut Columns,
    target: &mut Planes,
    (y, count): (usize, usize),
) {
    let (first, end) = kernel.reach();
    let Columns { source, resampled } = buffers;
    let bytes = (end - first) * 3;
    source.resize(bytes.next_multiple_of(ROWS), [0; ROWS]);
    to_columns(rows, bytes, source);
    let (pixels, _) = source.as_chunks::<3>();
    let places = kernel.len();
    resampled.resize(places.next_multiple_of(ROWS), [[0; ROWS]; 3]);
    if kernel.is_identity() {
        for (place, pixel) in pixels.iter().take(places).enumerate() {
            resampled[if flip { places - 1 - place } else { place }] = *pixel;
        }
    } else {
        weigh_pixels(pixels, first, kernel, flip, resampled);
    }
    to_rows(resampled, target, (y, count));
}

/// Transposes `bytes` bytes of each row.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn to_columns(rows: &[&[u8]; ROWS], bytes: usize, columns: &mut [Column]) {
    for (block, columns) in columns.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
        let at = block * ROWS;
        let mut square = [[0; ROWS]; ROWS];
        for (line, row) in square.iter_mut().zip(rows) {
            if let Some(whole) = row.get(at..).and_then(|rest| rest.first_chunk::<ROWS>()) {
                *line = *whole;
            } else if let Some(rest) = row.get(at..bytes.min(row.len())) {
                line[..rest.len()].copy_from_slice(rest);
            }
        }
        *columns = transposed(square);
    }
}

/// Transposes the columns of all channels into `count` rows of their planes, from row `y` on.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn to_rows(columns: &[[Column; 3]], target: &mut Planes, (y, count): (usize, usize)) {
    write_rows(columns, 0, target, (y, count));
}

/// Transposes 16 rows of columns, from row `first` of them on, into `count` rows of the planes, from row `y` on.
#[inline(always)]
pub(super) fn write_rows<const R: usize, const C: usize>(
    columns: &[[[u8; R]; C]],
    first: usize,
    target: &mut Planes,
    (y, count): (usize, usize),
) {
    let (width, stride) = (target.width, target.stride);
    for channel in 0..C {
        let plane = &mut target.bytes[channel * target.plane + y * stride..];
        for (block, columns) in columns.as_chunks::<ROWS>().0.iter().enumerate() {
            let mut square = [[0; ROWS]; ROWS];
            for (line, column) in square.iter_mut().zip(columns) {
                line.copy_from_slice(&column[channel][first..first + ROWS]);
            }
            let at = block * ROWS;
            for (line, row) in transposed(square).iter().zip(plane.chunks_mut(stride)).take(count) {
                let row = &mut row[at..width];
                match row.first_chunk_mut::<ROWS>() {
                    Some(whole) => *whole = *line,
                    None => row.copy_from_slice(&line[..row.len()]),
                }
            }
        }
    }
}

/// The weighted sums of pixels, each pixel being its three channels in 16 rows.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn weigh_pixels(
    pixels: &[[Column; 3]],
    first: usize,
    kernel: &Kernel<i32>,
    flip: bool,
    resampled: &mut [[Column; 3]],
) {
    let places = kernel.len();
    for place in 0..places {
        let (start, weights) = kernel.weights(place);
        let mut sums = [HALF; 3 * ROWS];
        for (pixel, &weight) in pixels[start - first..].iter().zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(pixel.as_flattened()) {
                *sum += i32::from(value) * weight;
            }
        }
        let place = if flip { places - 1 - place } else { place };
        round(&sums, resampled[place].as_flattened_mut());
    }
}

/// A weighted sum of lines that are `stride` bytes apart.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
pub(super) fn weigh_lines(pixels: &[u8], stride: usize, weights: &[i32], target: &mut [u8]) {
    let (blocks, rest) = target.as_chunks_mut::<BLOCK>();
    let whole = blocks.len() * BLOCK;
    for (block, target) in blocks.iter_mut().enumerate() {
        let mut sums = [HALF; BLOCK];
        for (line, &weight) in weights.iter().enumerate() {
            let values: &[u8; BLOCK] =
                pixels[line * stride + block * BLOCK..].first_chunk().unwrap_or(&[0; BLOCK]);
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += i32::from(value) * weight;
            }
        }
        round(&sums, target);
    }
    for (x, target) in rest.iter_mut().enumerate() {
        let value = |line: usize| i32::from(pixels[line * stride + whole + x]);
        let sum = weights.iter().enumerate().fold(HALF, |sum, (line, &weight)| sum + value(line) * weight);
        *target = rounded(sum);
    }
}

/// Written out, because `map` would not be compiled for the instructions of the caller.
#[inline(always)]
fn round(sums: &[i32], target: &mut [u8]) {
    for (value, &sum) in target.iter_mut().zip(sums) {
        *value = rounded(sum);
    }
}

#[inline(always)]
fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}
