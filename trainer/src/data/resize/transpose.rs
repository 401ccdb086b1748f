//! Squares of rows of 16 bytes, transposed.

#![expect(
    clippy::inline_always,
    reason = "a function that is not inlined is not compiled for the instructions of its caller"
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_mm_unpackhi_epi8, _mm_unpackhi_epi16, _mm_unpacklo_epi8, _mm_unpacklo_epi16};

/// Values of 16 bytes together.
pub(super) trait Row: Copy {
    /// The values of two rows in turn: first those of the first halves.
    fn interleaved(self, other: Self) -> [Self; 2];
}

/// Transposes a square by rounds in which row `i` is interleaved with the row half of the square below it.
#[inline(always)]
pub(super) fn transposed<R: Row, const N: usize>(mut square: [R; N]) -> [R; N] {
    for _ in 0..N.ilog2() {
        let mut next = square;
        for i in 0..N / 2 {
            [next[2 * i], next[2 * i + 1]] = square[i].interleaved(square[i + N / 2]);
        }
        square = next;
    }
    square
}

// Compilers do not recognise the instructions for this, which every x86-64 processor has.
#[cfg(target_arch = "x86_64")]
impl Row for [u8; 16] {
    #[inline(always)]
    fn interleaved(self, other: Self) -> [Self; 2] {
        let (upper, lower) = (bytemuck::cast(self), bytemuck::cast(other));
        // SAFETY: the instructions belong to SSE2, which is part of x86-64.
        unsafe { [_mm_unpacklo_epi8(upper, lower), _mm_unpackhi_epi8(upper, lower)] }.map(bytemuck::cast)
    }
}

#[cfg(target_arch = "x86_64")]
impl Row for [i16; 8] {
    #[inline(always)]
    fn interleaved(self, other: Self) -> [Self; 2] {
        let (upper, lower) = (bytemuck::cast(self), bytemuck::cast(other));
        // SAFETY: the instructions belong to SSE2, which is part of x86-64.
        unsafe { [_mm_unpacklo_epi16(upper, lower), _mm_unpackhi_epi16(upper, lower)] }.map(bytemuck::cast)
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl<T: Copy, const N: usize> Row for [T; N] {
    #[inline(always)]
    fn interleaved(self, other: Self) -> [Self; 2] {
        let value = |at: usize| if at % 2 == 0 { self[at / 2] } else { other[at / 2] };
        [std::array::from_fn(value), std::array::from_fn(|at| value(N + at))]
    }
}

#[cfg(test)]
mod tests {
    use super::transposed;

    #[test]
    fn columns_become_rows() {
        let bytes: [[u8; 16]; 16] = std::array::from_fn(|y| std::array::from_fn(|x| (16 * y + x) as u8));
        let words: [[i16; 8]; 8] = std::array::from_fn(|y| std::array::from_fn(|x| (1000 * y + x) as i16));
        let (across, down) = (transposed(bytes), transposed(words));
        for y in 0..16 {
            for x in 0..16 {
                assert_eq!(across[x][y], bytes[y][x]);
                if x < 8 && y < 8 {
                    assert_eq!(down[x][y], words[y][x]);
                }
            }
        }
    }
}
