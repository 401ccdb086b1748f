//! The division of a global batch, or of an evaluation list, over ranks: pure arithmetic on positions.
//!
//! Law 3: ranks take disjoint slices that cover all positions exactly once; nothing is padded, dropped or repeated.
//! Slices are contiguous and in rank order, and their sizes differ by at most one, the lower ranks having the
//! longer ones. Where there are fewer positions than ranks (a short last batch) the highest ranks get an
//! empty slice; they still take part in the step's collective calls (law 4).

use std::ops::Range;

/// The number of steps in an epoch of `epoch_len` positions; the last one may be short.
///
/// # Panics
/// If `batch` is zero.
pub fn steps_per_epoch(epoch_len: u64, batch: u64) -> u64 {
    assert!(batch > 0, "the global batch must have at least one sample, found 0");
    epoch_len.div_ceil(batch)
}

/// The positions of the global batch of step `step_in_epoch`, counted from 0. Past the end of the epoch it is
/// empty.
///
/// # Panics
/// If `batch` is zero.
pub fn batch_positions(epoch_len: u64, batch: u64, step_in_epoch: u64) -> Range<u64> {
    assert!(batch > 0, "the global batch must have at least one sample, found 0");
    let start = step_in_epoch.saturating_mul(batch).min(epoch_len);
    start..start.saturating_add(batch).min(epoch_len)
}

/// The positions of the epoch that `rank` of `world` trains in step `step_in_epoch`, counted from 0.
///
/// # Panics
/// If `batch` is zero or `rank` is not below `world`.
pub fn step_slice(epoch_len: u64, batch: u64, step_in_epoch: u64, world: u64, rank: u64) -> Range<u64> {
    let global = batch_positions(epoch_len, batch, step_in_epoch);
    let own = share(global.end - global.start, world, rank);
    global.start + own.start..global.start + own.end
}

/// The step, counted from 0, and the rank that train `position`; the inverse of [`step_slice`].
///
/// # Panics
/// If `batch` or `world` is zero or `position` is not below `epoch_len`.
pub fn step_and_rank(epoch_len: u64, batch: u64, world: u64, position: u64) -> (u64, u64) {
    assert!(position < epoch_len, "position {position} is outside an epoch of {epoch_len} positions");
    assert!(batch > 0 && world > 0, "batch and world must be at least 1, found {batch} and {world}");
    let step = position / batch;
    let global = batch_positions(epoch_len, batch, step);
    let (place, size) = (position - global.start, global.end - global.start);
    let (short, longer) = (size / world, size % world);
    // The first `longer` ranks have `short + 1` positions each.
    let in_longer = longer * (short + 1);
    let rank = if place < in_longer { place / (short + 1) } else { longer + (place - in_longer) / short };
    (step, rank)
}

/// The part of `0..len` that belongs to `rank` of `world`: of a list, of shards, of classes.
///
/// # Panics
/// If `rank` is not below `world`.
pub fn share(len: u64, world: u64, rank: u64) -> Range<u64> {
    assert!(rank < world, "rank {rank} is outside a world of size {world}");
    let (short, longer) = (len / world, len % world);
    let start = rank * short + rank.min(longer);
    start..start + short + u64::from(rank < longer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_last_batch_leaves_the_highest_ranks_without_samples() {
        let slices: Vec<_> = (0..4).map(|rank| step_slice(10, 8, 1, 4, rank)).collect();
        assert_eq!(slices, [8..9, 9..10, 10..10, 10..10]);
        assert_eq!(steps_per_epoch(10, 8), 2);
        assert_eq!(steps_per_epoch(0, 8), 0);
        assert_eq!(step_slice(10, 8, 2, 4, 0), 10..10);
        assert_eq!(step_slice(10, 8, u64::MAX, 4, 3), 10..10);
        assert_eq!(share(7, 3, 0), 0..3);
        assert_eq!(share(0, 3, 2), 0..0);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let max = u64::MAX;
        assert_eq!(step_slice(max, max, 0, max, max - 1), max - 1..max);
        assert_eq!(step_slice(max, 10, max / 10, 1, 0), max - max % 10..max);
        assert_eq!(step_and_rank(max, max, 2, max - 1), (0, 1));
    }

    #[test]
    #[should_panic(expected = "rank 4 is outside a world of size 4")]
    fn a_rank_outside_the_world_is_refused() {
        step_slice(10, 8, 0, 4, 4);
    }

    #[test]
    #[should_panic(expected = "the global batch must have at least one sample, found 0")]
    fn a_batch_of_nothing_is_refused() {
        steps_per_epoch(10, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        /// Iterating over all steps and ranks in order visits every position once, in order.
        #[test]
        fn slices_tile_the_epoch(len in 0_u64..2000, batch in 1_u64..300, world in 1_u64..40) {
            let mut next = 0;
            for step in 0..steps_per_epoch(len, batch) {
                let (mut smallest, mut largest) = (u64::MAX, 0);
                for rank in 0..world {
                    let slice = step_slice(len, batch, step, world, rank);
                    prop_assert_eq!(slice.start, next);
                    for position in slice.clone() {
                        prop_assert_eq!(step_and_rank(len, batch, world, position), (step, rank));
                    }
                    next = slice.end;
                    smallest = smallest.min(slice.end - slice.start);
                    largest = largest.max(slice.end - slice.start);
                }
                prop_assert_eq!(next, len.min((step + 1) * batch));
                prop_assert!(largest - smallest <= 1);
            }
            prop_assert_eq!(next, len);
            let evaluated: Vec<u64> = (0..world).flat_map(|rank| share(len, world, rank)).collect();
            prop_assert!(evaluated.into_iter().eq(0..len));
        }
    }
}
