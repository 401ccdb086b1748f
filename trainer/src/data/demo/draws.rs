//! Keyed draws for the drawn pictures: a `ChaCha8` stream whose 32-byte key is the picture's name.
//!
//! Law 6: a picture is a function of (seed, stream, class, index), so these four numbers are the key,
//! without a hash. Values are computed from the stream with `+ - * /` and `sqrt` only: IEEE 754 defines their
//! results exactly, whereas `sin` or `exp` differ between machines.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a picture is drawn for. Two streams never share a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PictureStream {
    /// The demo's training pictures.
    Train = 1,
    /// The demo's test pictures.
    Test = 2,
    /// The captioned drawings for pretraining.
    Pretraining = 3,
}

/// A stream of draws that belongs to one picture.
pub(super) struct PictureDraws(ChaCha8Rng);

impl PictureDraws {
    pub(super) fn new(seed: u64, stream: PictureStream, class: u64, index: u64) -> Self {
        let mut key = [0; 32];
        for (part, number) in key.chunks_exact_mut(8).zip([seed, stream as u64, class, index]) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform over `0..1`, in steps of 2^-24.
    pub(super) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform from `low` to `high`.
    pub(super) fn between(&mut self, [low, high]: [f32; 2]) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform over `0..n`, biased by less than `n / 2^32`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    /// True with the given odds.
    pub(super) fn chance(&mut self, odds: f32) -> bool {
        self.unit() < odds
    }

    /// One of `choices`, each with the same odds.
    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A direction within `half_angle` of the x axis, given as the tangent of half of `half_angle`.
    ///
    /// Where `t` is the tangent of half an angle, its cosine is `(1 - t^2) / (1 + t^2)` and its sine
    /// `2 t / (1 + t^2)`. A uniform `t` gives nearly uniform angles up to a right angle.
    pub(super) fn tilt(&mut self, tangent: f32) -> [f32; 2] {
        let t = self.between([-tangent, tangent]);
        let scale = 1.0 / (1.0 + t * t);
        [(1.0 - t * t) * scale, 2.0 * t * scale]
    }

    /// Any direction: a quarter of the circle, then a tilt of up to 45 degrees in it.
    pub(super) fn direction(&mut self) -> [f32; 2] {
        let [x, y] = self.tilt(std::f32::consts::SQRT_2 - 1.0);
        match self.below(4) {
            0 => [x, y],
            1 => [-y, x],
            2 => [-x, -y],
            _ => [y, -x],
        }
    }

    /// Fills `bytes` with uniform bytes.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, stream: PictureStream, class: u64, index: u64) -> u32 {
        PictureDraws::new(seed, stream, class, index).0.next_u32()
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let keys: Vec<u32> = [0, 1, u64::MAX]
            .iter()
            .flat_map(|&seed| {
                [PictureStream::Train, PictureStream::Test, PictureStream::Pretraining].into_iter().flat_map(
                    move |stream| {
                        (0..4_u64).flat_map(move |class| (0..4).map(move |i| first(seed, stream, class, i)))
                    },
                )
            })
            .collect();
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(first(5, PictureStream::Test, 2, 9), first(5, PictureStream::Test, 2, 9));
    }

    #[test]
    fn directions_are_unit_vectors_all_around() {
        let mut draws = PictureDraws::new(0, PictureStream::Test, 0, 0);
        let mut octants = [0_u32; 8];
        for _ in 0..8000 {
            let [x, y] = draws.direction();
            assert!((x * x + y * y - 1.0).abs() < 1e-5);
            octants[usize::from(x > 0.0) + 2 * usize::from(y > 0.0) + 4 * usize::from(x.abs() > y.abs())] +=
                1;
        }
        assert!(octants.iter().all(|&count| (900..1100).contains(&count)), "{octants:?}");
    }

    #[test]
    fn draws_stay_in_their_ranges() {
        let mut draws = PictureDraws::new(1, PictureStream::Train, 0, 0);
        let mut sum = 0.0;
        for _ in 0..10_000 {
            assert!(draws.below(7) < 7);
            let x = draws.between([-2.0, 3.0]);
            assert!((-2.0..=3.0).contains(&x));
            sum += x;
        }
        assert!((sum / 10_000.0 - 0.5).abs() < 0.06, "{sum}");
    }
}
