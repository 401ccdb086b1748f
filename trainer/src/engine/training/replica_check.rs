//! Check that all ranks still have the same trained tensors.
//!
//! Every rank updates its own replicated tensors. A different bit, from faulty memory or from a library that rounds
//! differently on one host, would go unnoticed; so the ranks compare checksums every few steps.

use crate::engine::failure::Failure;
use crate::engine::rank::Rank;
use crate::model::trainables::Trainables;
use crate::weights::copy_bytes;
use collectives::ReduceOp;
use std::hash::Hasher;
use tch::{Device, Tensor};
use twox_hash::XxHash64;

/// Fails, naming rank and tensor, if a rank has other values than most others. Collective.
pub fn check_agreement(trainables: &Trainables, rank: &Rank, step: u64) -> Result<(), Failure> {
    let sums = checksums(trainables);
    let all = sums.iter().fold(0i64, |sum, (_, one)| sum.rotate_left(7) ^ one);
    let (mut least, mut greatest) = ([all], [all]);
    rank.control.all_reduce(&mut least, ReduceOp::Min)?;
    rank.control.all_reduce(&mut greatest, ReduceOp::Max)?;
    if least == greatest {
        return Ok(());
    }
    let own: Vec<u8> = sums.iter().flat_map(|(_, sum)| sum.to_le_bytes()).collect();
    let rows = rank.control.all_gather(&own)?;
    let of = |row: &[u8], i: usize| row.get(8 * i..8 * i + 8).map(<[u8]>::to_vec);
    for (i, (name, _)) in sums.iter().enumerate() {
        let column: Vec<_> = rows.iter().map(|row| of(row, i)).collect();
        if let Some((odd, same)) = odd_one(&column) {
            let message = format!(
                "rank {odd} has other values in `{name}` than {same} other rank{} after step {step}; its memory or its libraries may be faulty\nhint: resume from the last checkpoint, without that host",
                if same == 1 { "" } else { "s" }
            );
            return Err(Failure::run(message).on_all_ranks());
        }
    }
    Err(Failure::run(format!("the ranks disagree about the trained tensors after step {step}"))
        .on_all_ranks())
}

/// The first entry that is not the most frequent one, and the count of the latter.
fn odd_one<T: PartialEq>(column: &[T]) -> Option<(usize, usize)> {
    let count = |value: &T| column.iter().filter(|other| *other == value).count();
    let most = column.iter().max_by_key(|value| count(value))?;
    // Of two different values neither has the majority: the value of rank 0 counts.
    let usual = if 2 * count(most) > column.len() { most } else { &column[0] };
    column.iter().position(|value| value != usual).map(|odd| (odd, count(usual)))
}

/// One checksum for each replicated tensor.
fn checksums(trainables: &Trainables) -> Vec<(String, i64)> {
    let flat = trainables.flat().to_device(Device::Cpu);
    let replicated = trainables.layout().filter(|(_, _, _, rows)| rows.is_none());
    let mut bytes = Vec::new();
    replicated
        .map(|(name, range, ..)| {
            let own = flat.narrow(0, range.start, range.end - range.start);
            (name.to_owned(), checksum(&own, &mut bytes))
        })
        .collect()
}

/// A checksum of the values of a tensor; `bytes` is a reused buffer.
pub(crate) fn checksum(numbers: &Tensor, bytes: &mut Vec<u8>) -> i64 {
    copy_bytes(numbers, bytes);
    let mut hash = XxHash64::with_seed(0);
    hash.write(bytes);
    hash.finish() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_odd_one_is_the_one_that_most_others_contradict() {
        assert_eq!(odd_one(&[1, 1, 2, 1]), Some((2, 3)));
        assert_eq!(odd_one(&[2, 1, 1]), Some((0, 2)));
        assert_eq!(odd_one(&[1, 2]), Some((1, 1)));
        assert_eq!(odd_one(&[1, 1]), None);
    }
}
