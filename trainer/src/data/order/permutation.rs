//! A keyed permutation of `0..n` of which any element is computed on its own, in constant time and no memory.
//!
//! Two constructions, by size:
//!
//! * `n <= 20`: a Fisher-Yates shuffle followed for one element. Its swap targets are the mixed-radix digits
//!   of two keyed 64-bit fractions, so each of the `n!` permutations is equally likely up to 2^-32. Most
//!   classes of a long-tailed set are this small, and a Feistel network is at its worst there.
//! * larger: an unbalanced Feistel network over the pairs (high, low) of `high < ceil(n / 2^k)` and
//!   `low < 2^k`, with addition modulo the two sizes, and cycle walking (Black and Rogaway, "Ciphers with
//!   arbitrary finite domains", CT-RSA 2002, methods "cycle walking" and "generalised Feistel"). The domain
//!   has fewer than `2^k <= sqrt(2 n)` elements outside `0..n`, so a second walk is rare.

use super::key::{Key, below, mix, split};

/// The largest size that is shuffled exactly.
const EXACT: u64 = 20;

/// The largest size whose permutation fits one 64-bit fraction: 12! < 2^29.
const ONE_FRACTION: u64 = 12;

/// Rounds of the Feistel network, each half being changed in every second one. At its smallest size, 21, the
/// chi-squared test of `places_and_neighbours_are_uniform` rejects four rounds at 15 sigma and, with twenty
/// times as many seeds, six at 10 sigma; eight pass with both.
const ROUNDS: u64 = 8;

/// A step between the keys of a permutation's rounds: odd, with its bits spread evenly.
const ROUND_STEP: u64 = 0xD1B5_4A32_D192_ED03;

/// A permutation of `0..n`, chosen by a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permutation {
    n: u64,
    key: u64,
    low_bits: u32,
    high_size: u64,
}

impl Permutation {
    pub(super) fn new(n: u64, key: Key) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let low_bits = bits / 2;
        let high_size = (n.saturating_sub(1) >> low_bits) + 1;
        Self { n, key: key.bits(), low_bits, high_size }
    }

    /// The image of `x`, which must be below `n`.
    #[inline]
    pub(super) fn at(&self, x: u64) -> u64 {
        debug_assert!(x < self.n, "{x} is outside a permutation of {} elements", self.n);
        if self.n <= EXACT {
            return self.shuffled(x);
        }
        let mut y = self.feistel(x);
        while y >= self.n {
            y = self.feistel(y);
        }
        y
    }

    /// Where `x` ends in the product of the swaps (i, j), i = 1, 2, ..., n-1 with j uniform in `0..=i`.
    fn shuffled(&self, mut x: u64) -> u64 {
        let mut fraction = self.key;
        for i in 1..self.n {
            if i == ONE_FRACTION {
                fraction = mix(self.key.wrapping_add(ROUND_STEP));
            }
            let (j, rest) = split(fraction, i + 1);
            fraction = rest;
            x = if x == i {
                j
            } else if x == j {
                i
            } else {
                x
            };
        }
        x
    }

    #[inline]
    fn feistel(&self, x: u64) -> u64 {
        let mask = (1 << self.low_bits) - 1;
        let (mut low, mut high) = (x & mask, x >> self.low_bits);
        let mut round_key = self.key;
        for _ in 0..ROUNDS / 2 {
            low = low.wrapping_add(mix(high ^ round_key)) & mask;
            round_key = round_key.wrapping_add(ROUND_STEP);
            high += below(mix(low ^ round_key), self.high_size);
            if high >= self.high_size {
                high -= self.high_size;
            }
            round_key = round_key.wrapping_add(ROUND_STEP);
        }
        (high << self.low_bits) | low
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::KeyPurpose;
    use super::super::tests::statistics::{chi_squared_uniform, spread};
    use super::*;

    fn permutation(n: u64, seed: u64) -> Permutation {
        Permutation::new(n, Key::new(seed, KeyPurpose::Instance).with(3))
    }

    fn list(n: u64, seed: u64) -> Vec<u64> {
        (0..n).map(|x| permutation(n, seed).at(x)).collect()
    }

    #[test]
    fn is_a_permutation_at_every_size() {
        for n in (0..=300).chain([1023, 1024, 1025, 4095, 4096, 4097, 8142, 65_535, 65_536, 65_537]) {
            for seed in 0..3 {
                let mut images = list(n, seed);
                images.sort_unstable();
                assert!(images.iter().copied().eq(0..n), "n = {n}, seed = {seed}");
            }
        }
    }

    #[test]
    fn stays_inside_the_largest_sizes() {
        for n in [u64::from(u32::MAX), 1 << 32, (1 << 32) + 1, 1 << 63, u64::MAX - 1, u64::MAX] {
            let images: Vec<u64> = (0..100).map(|x| permutation(n, 1).at(n - 1 - x)).collect();
            assert!(images.iter().all(|&y| y < n), "n = {n}");
        }
    }

    /// Index of a permutation among all of its size.
    fn rank(images: &[u64]) -> usize {
        (0..images.len()).fold(0, |rank, i| {
            let smaller = images[i + 1..].iter().filter(|&&y| y < images[i]).count();
            rank * (images.len() - i) + smaller
        })
    }

    #[test]
    fn all_permutations_of_few_elements_are_equally_frequent() {
        for (n, permutations) in [(1, 1), (2, 2), (3, 6), (4, 24), (5, 120), (6, 720)] {
            let mut seen = vec![0; permutations];
            for seed in 0..permutations as u64 * 400 {
                seen[rank(&list(n, seed))] += 1;
            }
            let score = chi_squared_uniform(&seen);
            eprintln!("all {permutations} permutations of {n}: {score:.2} sigma");
            assert!(score.abs() < 4.0, "n = {n}: {score} sigma, {seen:?}");
        }
    }

    /// Each element at each place, and each pair of elements at neighbouring places.
    #[test]
    fn places_and_neighbours_are_uniform() {
        for n in [7, 10, 12, 13, 20, 21, 24, 25, 31, 32, 33, 40, 64, 65, 100] {
            let cells = n as usize;
            let (mut places, mut pairs) = (vec![0; cells * cells], vec![0; cells * (cells - 1)]);
            for seed in 0..20_000 {
                let images = list(n, seed);
                for (place, &image) in images.iter().enumerate() {
                    places[place * cells + image as usize] += 1;
                }
                // One pair a permutation: the pairs of one permutation exclude each other.
                let place = seed as usize % (cells - 1);
                let (a, b) = (images[place] as usize, images[place + 1] as usize);
                pairs[a * (cells - 1) + b - usize::from(b > a)] += 1;
            }
            let (place_score, pair_score) = (chi_squared_uniform(&places), chi_squared_uniform(&pairs));
            eprintln!("n = {n}: places {place_score:.2} sigma, neighbours {pair_score:.2} sigma");
            assert!(
                place_score.abs() < 4.5 && pair_score.abs() < 4.5,
                "n = {n}: {place_score}, {pair_score}"
            );
        }
    }

    #[test]
    fn no_structure_at_the_size_of_real_lists() {
        for n in [8142_u64, 115_846, 437_513] {
            let images = list(n, 9);
            let bucket = |y: u64| (y * 32 / n) as usize;
            let mut pairs = vec![0; 32 * 32];
            images.windows(2).for_each(|w| pairs[bucket(w[0]) * 32 + bucket(w[1])] += 1);
            let mut differences = vec![0; 64];
            images.windows(2).for_each(|w| differences[(((w[1] + n - w[0]) % n) * 64 / n) as usize] += 1);
            let mut first = vec![0; 64];
            (0..64_000).for_each(|seed| first[(permutation(n, seed).at(0) * 64 / n) as usize] += 1);
            let scores = [&pairs, &differences, &first].map(|cells| chi_squared_uniform(cells));
            eprintln!("n = {n}: pairs, differences, first elements: {scores:.2?} sigma");
            assert!(scores.iter().all(|score| score.abs() < 4.0), "n = {n}: {scores:?}");
        }
    }

    /// The number of elements that two independent permutations map alike is Poisson distributed with mean 1.
    #[test]
    fn keys_next_to_each_other_are_unrelated() {
        for n in [5_u64, 16, 30, 1000] {
            let alike: Vec<f64> = (0..4000)
                .map(|seed| {
                    list(n, seed).iter().zip(list(n, seed + 1)).filter(|(a, b)| *a == b).count() as f64
                })
                .collect();
            let (mean, variance) = spread(&alike);
            eprintln!("n = {n}: elements mapped alike {mean:.3} on average, variance {variance:.3}");
            assert!(
                (mean - 1.0).abs() < 0.08 && (variance - 1.0).abs() < 0.15,
                "n = {n}: {mean}, {variance}"
            );
        }
    }

    #[test]
    fn a_second_walk_is_rare() {
        let n = 8142;
        let walks = (0..n).filter(|&x| permutation(n, 4).feistel(x) >= n).count();
        assert!(walks * 50 < n as usize, "{walks} of {n}");
    }
}
