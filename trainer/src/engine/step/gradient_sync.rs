//! The reduction of gradients over ranks, overlapped with the backward pass.
//!
//! The flat gradient is cut into contiguous buckets of complete blocks, from its end: the head and the last blocks,
//! whose gradients are complete first, are reduced first. Exactly the replicated trainables are reduced, once per step,
//! in place.

use collectives::{CollectiveError, Pending, ProcessGroup, ReduceOp};
use std::ops::Range;
use std::rc::Rc;
use tch::{Kind, Tensor};

/// How gradients are reduced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SyncOptions {
    /// Size in bytes from which a bucket is full; a size of the gradient or more makes one bucket.
    pub bucket_bytes: usize,
    /// The reduction of a bucket starts as soon as it is complete, during the backward pass of the blocks below.
    pub overlap: bool,
    /// Element type on the wire; a type other than the gradient's costs a conversion on each side.
    pub wire: Option<Kind>,
}

/// A range of the flat gradient that is reduced at once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bucket {
    range: Range<i64>,
    /// The bucket is complete when the gradients of this block are.
    last_unit: usize,
}

/// A bucket in flight.
struct InFlightBucket {
    pending: Pending,
    /// The tensor in flight, and its range of the gradient if they differ.
    converted: Option<(Tensor, Tensor)>,
}

/// The reduction of one flat gradient.
pub struct GradientSync {
    group: Rc<dyn ProcessGroup>,
    gradient: Tensor,
    buckets: Vec<Bucket>,
    options: SyncOptions,
    travelling: Vec<InFlightBucket>,
}

impl GradientSync {
    /// For the parts of `gradient` that `units` name: block and range, in ascending order.
    pub fn new(
        group: Rc<dyn ProcessGroup>,
        gradient: Tensor,
        units: &[(usize, Range<i64>)],
        options: SyncOptions,
    ) -> Self {
        let element = options.wire.unwrap_or(gradient.kind()).elt_size_in_bytes();
        let buckets = buckets(units, (options.bucket_bytes / element).max(1) as i64);
        Self { group, gradient, buckets, options, travelling: Vec::new() }
    }

    /// The gradients of this unit are complete, and so are those of all units after it.
    pub fn unit_done(&mut self, unit: usize) -> Result<(), CollectiveError> {
        if !self.options.overlap {
            return Ok(());
        }
        while self.buckets.get(self.travelling.len()).is_some_and(|bucket| bucket.last_unit >= unit) {
            self.start_next()?;
        }
        Ok(())
    }

    /// Returns when the gradient contains the sum over all ranks.
    pub fn finish(&mut self) -> Result<(), CollectiveError> {
        while self.travelling.len() < self.buckets.len() {
            self.start_next()?;
        }
        for InFlightBucket { pending, converted } in self.travelling.drain(..) {
            pending.wait()?;
            if let Some((wire, mut place)) = converted {
                place.copy_(&wire);
            }
        }
        Ok(())
    }

    /// Bytes that this rank reduces in a step.
    pub fn bytes(&self) -> usize {
        let element = self.options.wire.unwrap_or(self.gradient.kind()).elt_size_in_bytes();
        self.buckets.iter().map(|bucket| (bucket.range.end - bucket.range.start) as usize * element).sum()
    }

    fn start_next(&mut self) -> Result<(), CollectiveError> {
        let range = self.buckets[self.travelling.len()].range.clone();
        let place = self.gradient.narrow(0, range.start, range.end - range.start);
        let wire = self.options.wire.filter(|&kind| kind != place.kind());
        let travels = wire.map_or_else(|| place.shallow_clone(), |kind| place.to_kind(kind));
        let pending = self.group.start_all_reduce(&travels, ReduceOp::Sum)?;
        self.travelling.push(InFlightBucket { pending, converted: wire.map(|_| (travels, place)) });
        Ok(())
    }
}

/// Cuts the units into buckets of at least `least` elements, from the last unit to the first.
fn buckets(units: &[(usize, Range<i64>)], least: i64) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for (unit, range) in units.iter().rev() {
        match buckets.last_mut() {
            Some(Bucket { range: open, last_unit }) if open.end - open.start < least => {
                (open.start, *last_unit) = (range.start, *unit);
            }
            _ => buckets.push(Bucket { range: range.clone(), last_unit: *unit }),
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_complete_first_travels_first() {
        let units = [(0, 0..10), (1, 10..20), (2, 20..30), (3, 30..100)];
        let cut =
            |least| buckets(&units, least).into_iter().map(|b| (b.last_unit, b.range)).collect::<Vec<_>>();
        assert_eq!(cut(1), [(3, 30..100), (2, 20..30), (1, 10..20), (0, 0..10)]);
        assert_eq!(cut(15), [(3, 30..100), (1, 10..30), (0, 0..10)]);
        assert_eq!(cut(1000), [(0, 0..100)]);
        assert!(buckets(&[], 5).is_empty());
    }

    proptest! {
        /// Every element is reduced exactly once, for any sizes.
        #[test]
        fn law_5_buckets_tile_the_gradient(sizes in prop::collection::vec(0_i64..50, 0..20), least in 1_i64..200) {
            let mut end = 0;
            let units: Vec<_> = sizes.iter().enumerate().map(|(unit, size)| {
                end += size;
                (unit, end - size..end)
            }).collect();
            let cut = buckets(&units, least);
            let mut next = end;
            for bucket in &cut {
                prop_assert_eq!(bucket.range.end, next);
                next = bucket.range.start;
            }
            prop_assert_eq!(next, 0);
            prop_assert!(cut.iter().rev().skip(1).all(|b| b.range.end - b.range.start >= least));
        }
    }
}
