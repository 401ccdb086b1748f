//! Repeat-factor order (Gupta, Dollar and Girshick, "LVIS: a dataset for large vocabulary instance
//! segmentation", CVPR 2019, section 4.2): images of class c are repeated r(c) = max(1, sqrt(t / f(c))) times
//! per epoch, where f(c) is the share of images that have the class and t the threshold.
//!
//! The fractional part is rounded by systematic sampling, which needs neither a list per epoch nor a walk.
//! Lay the images of all classes on a line, each with a piece of length r(c). An epoch's slots are the points
//! `offset`, `offset + 1`, `offset + 2`, ... of that line, its offset in [0, 1) drawn by the epoch's key. So
//!
//! * every image comes floor(r) or ceil(r) times, r times in expectation; an image with r = 1 exactly once;
//! * every class of n images comes floor(n r) or ceil(n r) times, and a rare one is not rounded away;
//! * the length of the epoch is the total length of the line, rounded down or up;
//! * slot to class is a look at a guide table and a short search, class to image one division.
//!
//! Within a class the images lie on the line in an order of the epoch's key, and a position finds its slot by
//! another keyed permutation.

use std::ops::Range;

use super::class_index::ClassIndex;
use super::key::{Key, KeyPurpose, below};
use super::permutation::Permutation;
use super::{EpochOrder, OrderError};

/// Lengths are whole numbers of 2^-20: sums stay exact, and r is off by less than a millionth.
const UNIT: u64 = 1 << 20;

/// Systematic sampling along the line of all images.
#[derive(Debug)]
pub(super) struct RepeatFactor {
    index: ClassIndex,
    line: ImageLine,
    threshold: f64,
    samples: u64,
    offset_key: Key,
    order_key: Key,
}

impl RepeatFactor {
    pub(super) fn new(
        index: ClassIndex,
        samples: u64,
        threshold: f64,
        seed: u64,
    ) -> Result<Self, OrderError> {
        let lengths = index.iter().map(|row| row.count.checked_mul(repeats(row.count, samples, threshold)));
        let line = ImageLine::new(lengths).ok_or(OrderError::EpochTooLong { threshold })?;
        Ok(Self {
            index,
            line,
            threshold,
            samples,
            offset_key: Key::new(seed, KeyPurpose::RepeatOffset),
            order_key: Key::new(seed, KeyPurpose::RepeatOrder),
        })
    }

    fn offset(&self, epoch: u64) -> u64 {
        below(self.offset_key.with(epoch).bits(), UNIT)
    }
}

impl EpochOrder for RepeatFactor {
    fn len(&self, epoch: u64) -> u64 {
        self.line.len().saturating_sub(self.offset(epoch)).div_ceil(UNIT)
    }

    fn places(&self, epoch: u64) -> impl FnMut(u64) -> u64 {
        let offset = self.offset(epoch);
        let key = self.order_key.with(epoch);
        let slots = Permutation::new(self.len(epoch), key);
        move |position| {
            let point = slots.at(position) * UNIT + offset;
            let (row, piece) = self.line.piece(point);
            let class = self.index.row(row);
            let repeats = (piece.end - piece.start) / class.count;
            let image = (point - piece.start) / repeats;
            class.start + Permutation::new(class.count, key.with(row)).at(image)
        }
    }

    fn sample(&self, place: u64) -> u64 {
        self.index.sample(place)
    }

    fn class_weight(&self, _epoch: u64, count: u32) -> f64 {
        let count = u64::from(count);
        if count == 0 { 0.0 } else { (count * repeats(count, self.samples, self.threshold)) as f64 }
    }

    fn memory_bytes(&self) -> usize {
        self.index.memory_bytes() + self.line.memory_bytes()
    }
}

/// Pieces of given lengths, side by side from 0.
#[derive(Debug)]
struct ImageLine {
    /// Where each piece ends.
    ends: Box<[u64]>,
    /// The first piece that ends after `i << bits`; the points are as far apart as the average piece is long,
    /// or closer.
    guide: Box<[u32]>,
    bits: u32,
}

impl ImageLine {
    /// None if a length is none or the end of the line is 2^64 or more.
    fn new(lengths: impl Iterator<Item = Option<u64>>) -> Option<Self> {
        let ends: Option<Box<[u64]>> = lengths
            .scan(Some(0_u64), |end, length| {
                *end = end.zip(length).and_then(|(end, length)| end.checked_add(length));
                Some(*end)
            })
            .collect();
        let ends = ends?;
        let len = *ends.last()?;
        let bits = (len / ends.len() as u64).max(1).ilog2();
        let mut piece = 0;
        let guide = (0..=len >> bits).map(|i| {
            while piece + 1 < ends.len() && ends[piece] <= i << bits {
                piece += 1;
            }
            piece as u32
        });
        let guide = guide.collect();
        Some(Self { ends, guide, bits })
    }

    fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The piece in which a point of the line lies.
    fn piece(&self, point: u64) -> (u64, Range<u64>) {
        let i = (point >> self.bits) as usize;
        let first = self.guide[i] as usize;
        let last = self.guide.get(i + 1).map_or(self.ends.len() - 1, |&piece| piece as usize);
        let piece = first + self.ends[first..last].partition_point(|&end| end <= point);
        let start = if piece == 0 { 0 } else { self.ends[piece - 1] };
        (piece as u64, start..self.ends[piece])
    }

    fn memory_bytes(&self) -> usize {
        size_of_val(&*self.ends) + size_of_val(&*self.guide)
    }
}

/// r of a class with `count` of all `samples` images, in units.
fn repeats(count: u64, samples: u64, threshold: f64) -> u64 {
    let frequency = count as f64 / samples as f64;
    ((threshold / frequency).sqrt().max(1.0) * UNIT as f64).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_finds_its_piece() {
        for lengths in
            [vec![1], vec![5, 1, 1, 1, 1, 30, 2], vec![1; 40], vec![1000, 1, 1, 1, 500], (1..60).collect()]
        {
            let line = ImageLine::new(lengths.iter().copied().map(Some)).expect("a short line");
            let mut start = 0;
            for (piece, length) in (0..).zip(lengths) {
                for point in start..start + length {
                    assert_eq!(line.piece(point), (piece, start..start + length));
                }
                start += length;
            }
            assert_eq!(line.len(), start);
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        assert!(ImageLine::new([Some(u64::MAX), Some(1), Some(1)].into_iter()).is_none());
        assert!(ImageLine::new([Some(1), None].into_iter()).is_none());
    }
}
