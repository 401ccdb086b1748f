//! The inverse transform of a block, to 8, 4, 2 or 1 pixels in each direction (ITU-T T.81, A.3.3).
//!
//! A pixel of a reduced block is the mean of the pixels that it stands for. The transform along one direction is a product with a
//! matrix, of which only the rows up to the last coefficient are computed.

#![expect(
    clippy::inline_always,
    reason = "a function that is not inlined is not compiled for the instructions of its caller"
)]

use super::huffman::Block;
use multiversion::multiversion;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Coefficients of a block, multiplied by their quantisers.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Coefficients(pub(super) Block);

impl Coefficients {
    pub(super) const ZERO: Self = Self([0.0; _]);
}

/// The basis of a transform to fewer or eight pixels: `basis[u][x]`.
pub(super) type Basis = [[f32; 8]; 8];

/// The basis of the transform with a reduction of 1, 2, 4 or 8.
pub(super) fn basis(reduction: usize) -> Basis {
    let cosine = |u: usize, x: usize| {
        let scale = if u == 0 { FRAC_1_SQRT_2 } else { 1.0 };
        scale / 2.0 * ((2 * x + 1) as f64 * u as f64 * PI / 16.0).cos()
    };
    let mean = |u: usize, x: usize| {
        let pixels = x * reduction..(x + 1) * reduction;
        (pixels.map(|x| cosine(u, x)).sum::<f64>() / reduction as f64) as f32
    };
    std::array::from_fn(|u| std::array::from_fn(|x| if x < 8 / reduction { mean(u, x) } else { 0.0 }))
}

/// Writes the pixels of a block to rows that are `stride` bytes apart. `diagonal` is the largest sum of row and column of
/// a coefficient that is not zero. The coefficients are zero afterwards.
pub(super) fn write(
    coefficients: &mut Coefficients,
    diagonal: usize,
    (basis, side): (&Basis, usize),
    target: &mut [u8],
    stride: usize,
) {
    // The mean of a block is its first coefficient.
    if diagonal == 0 || side == 1 {
        let level = rounded(coefficients.0[0] / 8.0);
        *coefficients = Coefficients::ZERO;
        for row in target.chunks_mut(stride).take(side) {
            row[..side].fill(level);
        }
        return;
    }
    match (side, diagonal) {
        (8, ..2) => transform::<8, 2>(coefficients, basis, target, stride),
        (8, ..4) => transform::<8, 4>(coefficients, basis, target, stride),
        (8, _) => transform::<8, 8>(coefficients, basis, target, stride),
        (4, ..4) => transform::<4, 4>(coefficients, basis, target, stride),
        (4, _) => transform::<4, 8>(coefficients, basis, target, stride),
        _ => transform::<2, 8>(coefficients, basis, target, stride),
    }
}

/// Transforms the first `K` rows and columns to `N` pixels in each direction.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn transform<const N: usize, const K: usize>(
    coefficients: &mut Coefficients,
    basis: &Basis,
    target: &mut [u8],
    stride: usize,
) {
    let lines = coefficients.0.as_chunks_mut::<8>().0;
    let mut rows = [[0.0; 8]; N];
    for x in 0..N / 2 {
        // Cosines of even numbers are symmetrical, the others are antisymmetrical.
        let mut halves = [[0.0; 8]; 2];
        for u in 0..K {
            add(&mut halves[u % 2], basis[u][x], &lines[u]);
        }
        for (column, (even, odd)) in halves[0].iter().zip(&halves[1]).enumerate() {
            rows[x][column] = even + odd;
            rows[N - 1 - x][column] = even - odd;
        }
    }
    lines[..K].fill([0.0; 8]);
    for (row, target) in rows.iter().zip(target.chunks_mut(stride)) {
        let mut pixels = [0.0; 8];
        for u in 0..K {
            add(&mut pixels, row[u], &basis[u]);
        }
        let mut levels = [0; 8];
        for (level, &value) in levels.iter_mut().zip(&pixels) {
            *level = rounded(value);
        }
        target[..N].copy_from_slice(&levels[..N]);
    }
}

#[inline(always)]
fn add(sums: &mut [f32; 8], factor: f32, values: &[f32; 8]) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// The level of a value around zero. A sum of 2^23 has no binary places, so its lowest bits are the rounded number; unlike
/// a conversion, compilers make this an instruction for whole vectors.
#[inline(always)]
fn rounded(value: f32) -> u8 {
    const NO_PLACES: f32 = (1 << 23) as f32;
    ((value + 128.0).clamp(0.0, 255.0) + NO_PLACES).to_bits() as u8
}
