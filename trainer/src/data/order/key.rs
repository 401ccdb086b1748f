//! Keyed draws: a 64-bit value that depends on the seed, the purpose of the draw and its coordinates alone.
//!
//! Law 6 asks that random draws are keyed, not streamed: the value for (seed, epoch, position) is computed
//! from these numbers, so that any rank, thread or resumed run finds the same one without drawing the
//! others first. The mixing function is the finaliser of `SplitMix64` (Steele, Lea and Flood, "Fast
//! splittable pseudorandom number generators", OOPSLA 2014, with Stafford's constants "Mix13").
//!
//! Changing anything in this file changes every order ever trained with; `tests.rs` pins some values.

/// 2^64 divided by the golden ratio: an odd number whose multiples are spread over all bits.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// What a key is for. Draws of two purposes never share a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyPurpose {
    /// The permutation of all images, one per epoch.
    Instance = 1,
    /// The permutation of the classes, one per cycle.
    ClassCycle = 2,
    /// The permutation of a class's images, one per pass.
    ClassPass = 3,
    /// An independent draw with replacement, one per epoch and position.
    Draw = 4,
    /// The choice between the two halves of the progressive sampler, one per epoch and position.
    Mixture = 5,
    /// The grid offset of the repeat-factor sampler, one per epoch.
    RepeatOffset = 6,
    /// The permutation of the repeat-factor sampler's epoch.
    RepeatOrder = 7,
    /// The choice of images that the n-shot sampler keeps, one per class.
    Shots = 8,
}

/// A keyed source of draws; `with` narrows it by one more coordinate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn new(seed: u64, purpose: KeyPurpose) -> Self {
        Self(mix(seed.wrapping_add(GOLDEN))).with(purpose as u64)
    }

    /// The key of one value of the next coordinate. For a given key it is one-to-one in `coordinate`.
    pub(super) fn with(self, coordinate: u64) -> Self {
        Self(mix(self.0 ^ coordinate.wrapping_mul(GOLDEN)))
    }

    /// The draw itself, uniform over all 64-bit values.
    pub(super) fn bits(self) -> u64 {
        self.0
    }
}

/// A one-to-one function of 64 bits in which every input bit moves every output bit with odds of a half.
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Reads `bits` as a fraction of one and splits `fraction * n` into its whole part, uniform over `0..n`,
/// and its remaining fraction, which serves as further draw where `n` is far below 2^64.
pub(super) fn split(bits: u64, n: u64) -> (u64, u64) {
    let product = u128::from(bits) * u128::from(n);
    ((product >> 64) as u64, product as u64)
}

/// A draw uniform over `0..n`; its bias is below `n / 2^64`.
pub(super) fn below(bits: u64, n: u64) -> u64 {
    split(bits, n).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_bit_moves_half_of_the_output_bits() {
        for bit in 0..64 {
            let moved: u32 = (0..4000_u64)
                .map(|x| {
                    (mix(x.wrapping_mul(GOLDEN)) ^ mix(x.wrapping_mul(GOLDEN) ^ (1 << bit))).count_ones()
                })
                .sum();
            let mean = f64::from(moved) / 4000.0;
            assert!((mean - 32.0).abs() < 0.5, "bit {bit} moves {mean} bits on average");
        }
    }

    #[test]
    fn purposes_and_coordinates_have_keys_of_their_own() {
        let mut keys = std::collections::HashSet::new();
        for seed in 0..20 {
            for purpose in
                [KeyPurpose::Instance, KeyPurpose::ClassCycle, KeyPurpose::ClassPass, KeyPurpose::Draw]
            {
                for a in 0..20 {
                    for b in 0..20 {
                        assert!(keys.insert(Key::new(seed, purpose).with(a).with(b).bits()));
                    }
                }
            }
        }
    }

    #[test]
    fn split_keeps_what_is_left_of_the_fraction() {
        assert_eq!(split(1 << 63, 3), (1, 1 << 63));
        assert_eq!(split(u64::MAX, 7).0, 6);
        assert_eq!(below(0, 1), 0);
    }
}
